//! The `ui` of a preset: the look of the call.

use std::fmt;

use garde::{
    Path, Report, Validate,
    rules::{AsStr, pattern::Matcher},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::urls::{HTTP_URL, MAX_URL_CHARS, http_url};

/// The look of the call. By default the web SDK's own dark theme with blue as the brand colour.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "PresetUi")]
#[serde(default)]
pub struct Ui {
    /// Colours, shapes and fonts.
    #[garde(dive)]
    pub design_tokens: DesignTokens,
}

/// Colours, shapes and fonts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "DesignTokens")]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct DesignTokens {
    /// Roundness of corners.
    pub border_radius: BorderRadius,
    /// Width of borders.
    pub border_width: BorderWidth,
    /// Base unit of spacing, in CSS pixels: at least 1, 4 by default.
    #[garde(custom(at_least_one))]
    #[schemars(range(min = 1))]
    pub spacing_base: Number,
    /// Theme of the colours.
    pub theme: Theme,
    /// An absolute http or https URL of the logo.
    #[garde(length(chars, max = MAX_URL_CHARS), custom(http_url))]
    #[schemars(regex(pattern = HTTP_URL))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logo: Option<String>,
    /// A CSS font family.
    #[garde(length(chars, max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub font_family: Option<String>,
    /// Name of a font on Google Fonts.
    #[garde(length(chars, max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub google_font: Option<String>,
    /// The colours.
    #[garde(dive)]
    pub colors: Colours,
}

impl Default for DesignTokens {
    fn default() -> Self {
        Self {
            border_radius: BorderRadius::Rounded,
            border_width: BorderWidth::Thin,
            spacing_base: Number::from(4),
            theme: Theme::Dark,
            logo: None,
            font_family: None,
            google_font: None,
            colors: Colours::default(),
        }
    }
}

fn at_least_one<C>(number: &Number, _: &C) -> garde::Result {
    if number.as_f64().is_some_and(|number| number >= 1.0) {
        Ok(())
    } else {
        Err(garde::Error::new("lower than 1"))
    }
}

/// Roundness of corners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "BorderRadius")]
#[serde(rename_all = "kebab-case")]
pub enum BorderRadius {
    /// Square corners.
    Sharp,
    /// Slightly rounded corners. The default.
    Rounded,
    /// Rounder corners.
    ExtraRounded,
    /// Semicircles.
    Circular,
}

/// Width of borders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "BorderWidth")]
#[serde(rename_all = "lowercase")]
pub enum BorderWidth {
    /// No borders.
    None,
    /// Thin borders. The default.
    Thin,
    /// Thick borders.
    Fat,
}

/// Theme of the colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Theme")]
#[serde(rename_all = "lowercase")]
pub enum Theme {
    /// Black background.
    Darkest,
    /// Dark grey background. The default.
    Dark,
    /// White background.
    Light,
}

/// A colour in CSS hex notation: `#` and three to eight hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[garde(transparent)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Colour(#[garde(pattern(HexColour))] String);

impl Colour {
    /// The colour as it was sent, for example `#2160FD`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Colour {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Pattern of a [`Colour`]. Matched by hand, to avoid a dependency on a regular expression engine.
struct HexColour;

impl AsStr for HexColour {
    fn as_str(&self) -> &'static str {
        "^#[0-9a-fA-F]{3,8}$"
    }
}

impl fmt::Display for HexColour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Matcher for HexColour {
    fn is_match(&self, text: &str) -> bool {
        text.strip_prefix('#').is_some_and(|digits| {
            (3..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit())
        })
    }
}

/// The colours of a theme.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "ThemeColors")]
#[serde(default)]
pub struct Colours {
    /// Brand colour, in five shades.
    #[garde(dive)]
    pub brand: BrandColours,
    /// Background colour, in five shades.
    #[garde(dive)]
    pub background: BackgroundColours,
    /// Errors and the leave button.
    #[garde(dive)]
    pub danger: Colour,
    /// Success messages.
    #[garde(dive)]
    pub success: Colour,
    /// Text on the background.
    #[garde(dive)]
    pub text: Colour,
    /// Text on the brand colour.
    #[garde(dive)]
    pub text_on_brand: Colour,
    /// Background of videos that do not fill their tile.
    #[garde(dive)]
    pub video_bg: Colour,
    /// Warnings.
    #[garde(dive)]
    pub warning: Colour,
}

impl Default for Colours {
    fn default() -> Self {
        Self {
            brand: BrandColours::default(),
            background: BackgroundColours::default(),
            danger: "#FF2D2D".into(),
            success: "#62A504".into(),
            text: "#EEEEEE".into(),
            text_on_brand: "#EEEEEE".into(),
            video_bg: "#191919".into(),
            warning: "#FFCD07".into(),
        }
    }
}

/// Five shades of one colour, with numeric names on the wire. [`Validate`] is implemented by hand,
/// because garde derives paths from Rust field names.
macro_rules! shades {
    ($(#[$doc:meta])* $Shades:ident as $schema:literal { $($field:ident = $name:literal: $default:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[schemars(rename = $schema)]
        #[serde(default)]
        pub struct $Shades {
            $(
                #[doc = concat!("Shade ", $name, ", `", $default, "` by default.")]
                #[serde(rename = $name)]
                pub $field: Colour,
            )*
        }

        impl Default for $Shades {
            fn default() -> Self {
                Self { $($field: $default.into(),)* }
            }
        }

        impl Validate for $Shades {
            type Context = ();

            fn validate_into(
                &self,
                (): &(),
                parent: &mut dyn FnMut() -> Path,
                report: &mut Report,
            ) {
                $(self.$field.validate_into(&(), &mut || parent().join($name), report);)*
            }
        }
    };
}

shades!(
    /// Brand colour in five shades, lightest first.
    BrandColours as "BrandColors" {
        shade_300 = "300": "#9FBAFF",
        shade_400 = "400": "#5C8AFF",
        shade_500 = "500": "#2160FD",
        shade_600 = "600": "#1E50D6",
        shade_700 = "700": "#1840AA",
    }
);

shades!(
    /// Background colour in five shades, lightest first.
    BackgroundColours as "BackgroundColors" {
        shade_600 = "600": "#4A4A4A",
        shade_700 = "700": "#3E3E3E",
        shade_800 = "800": "#323232",
        shade_900 = "900": "#2F2F2F",
        shade_1000 = "1000": "#252525",
    }
);
