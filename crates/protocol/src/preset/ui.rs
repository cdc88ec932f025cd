//! The `ui` of a preset: how the call looks.

use std::fmt;

use garde::{
    Path, Report, Validate,
    rules::{AsStr, pattern::Matcher},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::address::{HTTP_URL, MAX_URL_CHARS, http_url};

/// How the call looks. By default the web SDK's own dark theme with blue as the brand.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default)]
pub struct Ui {
    /// The colours, shapes and fonts.
    #[garde(dive)]
    pub design_tokens: DesignTokens,
}

/// Colours, shapes and fonts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct DesignTokens {
    /// The roundness of corners.
    pub border_radius: BorderRadius,
    /// The width of borders.
    pub border_width: BorderWidth,
    /// The unit of all spacing, in CSS pixels: at least 1, 4 by default.
    #[garde(custom(at_least_one))]
    #[schemars(range(min = 1))]
    pub spacing_base: Number,
    /// Which theme the colours belong to.
    pub theme: Theme,
    /// An absolute http or https URL of a picture.
    #[garde(length(chars, max = MAX_URL_CHARS), custom(http_url))]
    #[schemars(regex(pattern = HTTP_URL))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logo: Option<String>,
    /// A CSS font family.
    #[garde(length(chars, max = 256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub font_family: Option<String>,
    /// The name of a font at Google Fonts.
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

/// The roundness of corners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BorderRadius {
    /// Square.
    Sharp,
    /// A little round. The default.
    Rounded,
    /// Rounder.
    ExtraRounded,
    /// Half circles.
    Circular,
}

/// The width of borders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BorderWidth {
    /// No borders.
    None,
    /// The default.
    Thin,
    /// Wide.
    Fat,
}

/// Which theme the colours belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Theme {
    /// Black.
    Darkest,
    /// Dark grey. The default.
    Dark,
    /// White.
    Light,
}

/// A colour in CSS hex notation: `#` and three to eight hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[garde(transparent)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Colour(#[garde(pattern(HexColour))] String);

impl Colour {
    /// The text as it came, for example `#2160FD`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Colour {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// The rule of a [`Colour`]. It is matched by hand, so that no regular expression
/// engine is needed for one pattern.
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
#[serde(default)]
pub struct Colours {
    /// The brand, in five shades.
    #[garde(dive)]
    pub brand: BrandColours,
    /// The background, in five shades.
    #[garde(dive)]
    pub background: BackgroundColours,
    /// Errors and leaving.
    #[garde(dive)]
    pub danger: Colour,
    /// Good news.
    #[garde(dive)]
    pub success: Colour,
    /// Text on the background.
    #[garde(dive)]
    pub text: Colour,
    /// Text on the brand.
    #[garde(dive)]
    pub text_on_brand: Colour,
    /// Behind a picture that does not fill its frame.
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

/// Five shades of one colour whose names on the wire are numbers. garde names a path
/// after the Rust field, hence the hand-written [`Validate`].
macro_rules! shades {
    ($(#[$doc:meta])* $Shades:ident { $($field:ident = $name:literal: $default:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// The brand's colour in five shades, the lightest first.
    BrandColours {
        shade_300 = "300": "#9FBAFF",
        shade_400 = "400": "#5C8AFF",
        shade_500 = "500": "#2160FD",
        shade_600 = "600": "#1E50D6",
        shade_700 = "700": "#1840AA",
    }
);

shades!(
    /// The background in five shades, the lightest first.
    BackgroundColours {
        shade_600 = "600": "#4A4A4A",
        shade_700 = "700": "#3E3E3E",
        shade_800 = "800": "#323232",
        shade_900 = "900": "#2F2F2F",
        shade_1000 = "1000": "#252525",
    }
);
