"""Questions of a sweep that are answered by one estimate, one interval and one verdict, wherever they are shown."""
