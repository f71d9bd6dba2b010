"use strict";
// In the head, before anything is painted: the reader's choice of light or dark, where one was made.
try {
  const chosen = localStorage.getItem("fairsweep-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch (error) {
  // A browser may keep no memory for files: the page then follows the system.
}
