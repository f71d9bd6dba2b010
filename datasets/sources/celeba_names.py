"""Names of CelebA's 40 attributes in this project, and labels of their two values in plots."""

from __future__ import annotations

from fairsweep.datasets.storage.layout import Attribute

# The attribute's column: what to show for an example without it, and for one with it.
DISPLAY: dict[str, tuple[str, str]] = {
    "5_o_clock_shadow": ("no 5 o'clock shadow", "5 o'clock shadow"),
    "arched_eyebrows": ("no arched eyebrows", "arched eyebrows"),
    "attractive": ("not called attractive", "called attractive"),
    "bags_under_eyes": ("no bags under eyes", "bags under eyes"),
    "bald": ("not bald", "bald"),
    "bangs": ("no bangs", "bangs"),
    "big_lips": ("no big lips", "big lips"),
    "big_nose": ("no big nose", "big nose"),
    "black_hair": ("no black hair", "black hair"),
    "blond_hair": ("not blond", "blond"),
    "blurry": ("sharp", "blurry"),
    "brown_hair": ("no brown hair", "brown hair"),
    "bushy_eyebrows": ("no bushy eyebrows", "bushy eyebrows"),
    "chubby": ("not chubby", "chubby"),
    "double_chin": ("no double chin", "double chin"),
    "eyeglasses": ("no glasses", "glasses"),
    "goatee": ("no goatee", "goatee"),
    "gray_hair": ("no gray hair", "gray hair"),
    "heavy_makeup": ("no heavy makeup", "heavy makeup"),
    "high_cheekbones": ("no high cheekbones", "high cheekbones"),
    "male": ("female", "male"),
    "mouth_slightly_open": ("mouth closed", "mouth slightly open"),
    "mustache": ("no mustache", "mustache"),
    "narrow_eyes": ("no narrow eyes", "narrow eyes"),
    "no_beard": ("beard", "no beard"),
    "oval_face": ("no oval face", "oval face"),
    "pale_skin": ("no pale skin", "pale skin"),
    "pointy_nose": ("no pointy nose", "pointy nose"),
    "receding_hairline": ("no receding hairline", "receding hairline"),
    "rosy_cheeks": ("no rosy cheeks", "rosy cheeks"),
    "sideburns": ("no sideburns", "sideburns"),
    "smiling": ("not smiling", "smiling"),
    "straight_hair": ("no straight hair", "straight hair"),
    "wavy_hair": ("no wavy hair", "wavy hair"),
    "wearing_earrings": ("no earrings", "earrings"),
    "wearing_hat": ("no hat", "hat"),
    "wearing_lipstick": ("no lipstick", "lipstick"),
    "wearing_necklace": ("no necklace", "necklace"),
    "wearing_necktie": ("no necktie", "necktie"),
    "young": ("not young", "young"),
}


def attribute(raw_name: str) -> Attribute:
    """Return the attribute of a column of CelebA's table.

    Args:
        raw_name: Its name there, for example "5_o_Clock_Shadow". One that CelebA does not have is shown by its words.

    >>> attribute("Male").display
    ('female', 'male')
    """
    name = raw_name.lower().replace(" ", "_")
    words = name.replace("_", " ")
    return Attribute(name=name, values=("no", "yes"), display=DISPLAY.get(name, (f"not {words}", words)))
