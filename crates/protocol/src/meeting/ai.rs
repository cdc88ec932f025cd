//! The `ai_config` of a meeting: how it is transcribed and summarised.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a meeting is transcribed and summarised.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, Validate)]
#[garde(allow_unvalidated)]
pub struct AiConfig {
    /// How speech becomes text.
    #[garde(dive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transcription: Option<Transcription>,
    /// How the text becomes a summary.
    #[garde(dive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summarization: Option<Summarization>,
}

/// How speech becomes text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct Transcription {
    /// Words to listen for, such as names: at most 1,000 of at most 100 characters.
    #[garde(length(max = 1000), inner(length(chars, max = 100)))]
    pub keywords: Vec<String>,
    /// The code of the language that is spoken, `en-US` by default. Whether it is
    /// understood depends on the engine.
    #[garde(length(chars, min = 1, max = 32))]
    pub language: String,
    /// Leave out swear words.
    pub profanity_filter: bool,
}

impl Default for Transcription {
    fn default() -> Self {
        Self {
            keywords: Vec::new(),
            language: "en-US".to_owned(),
            profanity_filter: false,
        }
    }
}

/// How a transcript becomes a summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct Summarization {
    /// The length of the summary in words, 500 by default.
    #[garde(range(min = 150, max = 1000))]
    pub word_limit: u32,
    /// How the summary is written.
    pub text_format: SummaryFormat,
    /// What kind of meeting it was.
    pub summary_type: SummaryType,
}

impl Default for Summarization {
    fn default() -> Self {
        Self {
            word_limit: 500,
            text_format: SummaryFormat::default(),
            summary_type: SummaryType::default(),
        }
    }
}

/// How a summary is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SummaryFormat {
    /// Text only.
    PlainText,
    /// Markdown. The default.
    #[default]
    Markdown,
}

/// What kind of meeting a summary is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SummaryType {
    /// Any. The default.
    #[default]
    General,
    /// A team's meeting.
    TeamMeeting,
    /// A call to sell something.
    SalesCall,
    /// A talk with a client.
    ClientCheckIn,
    /// An interview.
    Interview,
    /// A short daily meeting.
    DailyStandup,
    /// Two people.
    OneOnOneMeeting,
    /// A lecture.
    Lecture,
    /// A review of code.
    CodeReview,
}
