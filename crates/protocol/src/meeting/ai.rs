//! The `ai_config` of a meeting: transcription and summaries.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a meeting is transcribed and summarised.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "AiConfig")]
#[garde(allow_unvalidated)]
pub struct AiConfig {
    /// Settings of the transcription.
    #[garde(dive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transcription: Option<Transcription>,
    /// Settings of the summary.
    #[garde(dive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summarization: Option<Summarization>,
}

/// Settings of the transcription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "TranscriptionConfig")]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct Transcription {
    /// Words that need special attention, such as names: at most 1,000 with at most 100 characters
    /// each.
    #[garde(length(max = 1000), inner(length(chars, max = 100)))]
    pub keywords: Vec<String>,
    /// Code of the spoken language, `en-US` by default. The supported languages depend on the
    /// transcription engine.
    #[garde(length(chars, min = 1, max = 32))]
    pub language: String,
    /// Whether to leave out profanity.
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

/// Settings of the summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[schemars(rename = "SummarizationConfig")]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct Summarization {
    /// Maximum length of the summary, in words. 500 by default.
    #[garde(range(min = 150, max = 1000))]
    pub word_limit: u32,
    /// Text format of the summary.
    pub text_format: SummaryFormat,
    /// Type of meeting.
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

/// Text format of a summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SummaryFormat")]
#[serde(rename_all = "snake_case")]
pub enum SummaryFormat {
    /// Plain text.
    PlainText,
    /// Markdown. The default.
    #[default]
    Markdown,
}

/// Type of meeting that a summary is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SummaryType")]
#[serde(rename_all = "snake_case")]
pub enum SummaryType {
    /// Any meeting. The default.
    #[default]
    General,
    /// A team meeting.
    TeamMeeting,
    /// A sales call.
    SalesCall,
    /// A check-in with a client.
    ClientCheckIn,
    /// An interview.
    Interview,
    /// A daily stand-up.
    DailyStandup,
    /// A one-on-one meeting.
    OneOnOneMeeting,
    /// A lecture.
    Lecture,
    /// A code review.
    CodeReview,
}
