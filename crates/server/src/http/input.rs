//! Parses untrusted input into typed values: bodies, query strings and path parameters.
//!
//! Error messages use the wording that `RealtimeKit`'s clients match on
//! (`BAD_REQUEST: "preset_name" is required`), with a JSON pointer for bodies.

use std::str::FromStr;

use axum::extract::RawPathParams;
use garde::Validate;
use parlor_protocol::strict::{self, ErrorKind};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{ApiError, Problem};

/// The type of a body or a query string: parsed by serde, validated by garde, described by
/// schemars.
pub trait Input: DeserializeOwned + Validate<Context = ()> + JsonSchema + Send + 'static {}

impl<T: DeserializeOwned + Validate<Context = ()> + JsonSchema + Send + 'static> Input for T {}

/// An object without fields. Any fields that are sent are ignored.
#[derive(Debug, Default, Deserialize, Validate, JsonSchema)]
#[schemars(rename = "EmptyBody")]
#[garde(allow_unvalidated)]
pub struct Empty {}

/// Parses a JSON body. An empty body counts as `{}`, because the SDKs send operations without
/// fields that way.
///
/// # Errors
/// 400 with the first error of parsing, or else with one problem for each invalid field.
pub fn parse_body<T: Input>(bytes: &[u8]) -> Result<T, ApiError> {
    let bytes = if bytes.trim_ascii().is_empty() {
        b"{}"
    } else {
        bytes
    };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = strict::deserialize(&mut deserializer).map_err(|error| {
        if error.source.is_data() {
            explain(error, InputSource::Body)
        } else {
            invalid_json(&error.source)
        }
    })?;
    deserializer.end().map_err(|error| invalid_json(&error))?;
    validated(value, InputSource::Body)
}

/// Parses a query string. Empty values count as absent, except for an empty custom id, which is
/// rejected. Unknown parameters are ignored.
///
/// # Errors
/// 400 that names the parameter.
pub fn parse_query<T: Input>(query: &str) -> Result<T, ApiError> {
    let pairs = url::form_urlencoded::parse(query.as_bytes())
        // An unset variable in a caller's code must not turn a request about one participant into
        // a request about all participants.
        .filter(|(name, value)| !value.is_empty() || name == "custom_participant_id");
    let kept = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish();
    let deserializer = serde_html_form::Deserializer::from_bytes(kept.as_bytes());
    match strict::deserialize(deserializer) {
        Ok(value) => validated(value, InputSource::Query),
        Err(error) => Err(explain_query(error, &kept)),
    }
}

/// Parses and validates a JSON value that was merged from a body and the stored value.
///
/// # Errors
/// 400 with pointers into the value.
pub fn parse_value<T: Input>(value: serde_json::Value) -> Result<T, ApiError> {
    match strict::deserialize(value) {
        Ok(value) => validated(value, InputSource::Body),
        Err(error) => Err(explain(error, InputSource::Body)),
    }
}

/// The part of the request that a value comes from. Only bodies have JSON pointers.
#[derive(Clone, Copy, PartialEq)]
enum InputSource {
    Body,
    Query,
}

fn validated<T: Input>(value: T, source: InputSource) -> Result<T, ApiError> {
    let Err(report) = value.validate() else {
        return Ok(value);
    };
    let problems = report.iter().map(|(path, error)| {
        let path = path.to_string().replace('[', ".").replace(']', "");
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        let message = match error.message() {
            "length is lower than 1" => "is not allowed to be empty",
            "not set" => "is required",
            other => other,
        };
        problem(&path, message, source)
    });
    Err(ApiError::invalid(problems.collect()))
}

fn problem(path: &[String], complaint: &str, source: InputSource) -> Problem {
    let name = if path.is_empty() {
        "body".to_owned()
    } else {
        path.join(".")
    };
    let message = format!("BAD_REQUEST: \"{name}\" {complaint}");
    match source {
        InputSource::Body => Problem::at(pointer(path), message),
        InputSource::Query => Problem::new(message),
    }
}

fn pointer(path: &[String]) -> String {
    path.iter()
        .map(|segment| format!("/{}", segment.replace('~', "~0").replace('/', "~1")))
        .collect()
}

fn invalid_json(error: &serde_json::Error) -> ApiError {
    let message = format!("BAD_REQUEST: the body is not valid JSON: {error}");
    ApiError::invalid(vec![Problem::at("", message)])
}

/// Translates an error into the API's wording.
fn explain<E>(error: strict::Error<E>, source: InputSource) -> ApiError {
    let complaint = match error.kind {
        ErrorKind::Missing => "is required".to_owned(),
        ErrorKind::Duplicate => "is listed more than once".to_owned(),
        ErrorKind::Invalid { expected } => format!("must be {}", plain_type_name(&expected)),
        ErrorKind::UnknownVariant { expected } => {
            format!("must be one of [{}]", expected.join(", "))
        }
        ErrorKind::Nul => "is not valid: it contains the character U+0000".to_owned(),
        ErrorKind::Other(text) => format!("is not valid: {text}"),
    };
    ApiError::invalid(vec![problem(&error.path, &complaint, source)])
}

/// Translates an error in a query string. The deserializer does not say whether a parameter is
/// repeated or a number too large, so this looks at the parameter's values.
fn explain_query<E>(error: strict::Error<E>, query: &str) -> ApiError {
    let mut values = url::form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| error.path == [name.as_ref()])
        .map(|(_, value)| value);
    let complaint = match (values.next(), values.next(), &error.kind) {
        (_, Some(_), _) => "is listed more than once",
        (Some(value), None, ErrorKind::Invalid { expected })
            if plain_type_name(expected).starts_with("a whole number")
                && value.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            "is too large"
        }
        _ => return explain(error, InputSource::Query),
    };
    ApiError::invalid(vec![problem(&error.path, complaint, InputSource::Query)])
}

/// The API's name for a type that serde expected.
fn plain_type_name(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a sequence" => "an array",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

/// The path parameters that follow the account and the app.
pub trait FromPath: JsonSchema + Sized + Send + 'static {
    /// Reads the parameters.
    ///
    /// # Errors
    /// 400 that names the parameter.
    fn from_path(params: &PathParams<'_>) -> Result<Self, ApiError>;
}

impl FromPath for Empty {
    fn from_path(_: &PathParams<'_>) -> Result<Self, ApiError> {
        Ok(Self {})
    }
}

/// The percent-decoded parameters of a request's path.
pub struct PathParams<'a>(pub(super) &'a RawPathParams);

impl PathParams<'_> {
    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// Parses one parameter as an id.
    ///
    /// # Errors
    /// 400 with RealtimeKit's message when the parameter is not a valid id.
    pub fn id<T: FromStr>(&self, name: &str) -> Result<T, ApiError> {
        let value = self.raw(name).unwrap_or_default();
        value.parse().map_err(|_| invalid_id(name))
    }
}

/// The 400 for a malformed id: RealtimeKit's message, followed by the parameter's name.
pub(super) fn invalid_id(name: &str) -> ApiError {
    let message = format!("BAD_REQUEST \"id\" must be a valid GUID (path parameter \"{name}\")");
    ApiError::invalid(vec![Problem::new(message)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, Validate, JsonSchema)]
    struct Body {
        #[garde(length(chars, min = 1, max = 5))]
        name: String,
        #[garde(length(chars, max = 3))]
        nick: Option<String>,
        #[garde(range(min = 1, max = 10))]
        #[serde(default)]
        age: Option<u8>,
        #[garde(skip)]
        #[serde(default)]
        #[expect(dead_code, reason = "only parsed")]
        items: Vec<Item>,
        #[garde(skip)]
        #[serde(default)]
        #[expect(dead_code, reason = "only parsed")]
        colors: Vec<Color>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only parsed")]
    struct Item {
        name: String,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Color {
        Red,
        Green,
    }

    fn complaint(body: &str) -> (String, String) {
        let error = parse_body::<Body>(body.as_bytes()).unwrap_err();
        let problem = &error.problems()[0];
        (problem.message.clone(), problem.pointer.clone().unwrap())
    }

    #[test]
    fn errors_use_the_known_wording() {
        let cases = [
            (r"{}", "BAD_REQUEST: \"name\" is required", "/name"),
            (
                r#"{"name": 5}"#,
                "BAD_REQUEST: \"name\" must be a string",
                "/name",
            ),
            (
                r#"{"name": null}"#,
                "BAD_REQUEST: \"name\" must be a string",
                "/name",
            ),
            (
                r#"{"name": ""}"#,
                "BAD_REQUEST: \"name\" is not allowed to be empty",
                "/name",
            ),
            (
                r#"{"name": "abcdef"}"#,
                "BAD_REQUEST: \"name\" length is greater than 5",
                "/name",
            ),
            (
                r#"{"name": "a", "name": "b"}"#,
                "BAD_REQUEST: \"name\" is listed more than once",
                "/name",
            ),
            (
                r#"{"name": "a", "age": 11}"#,
                "BAD_REQUEST: \"age\" greater than 10",
                "/age",
            ),
            (
                r#"{"name": "a", "age": -1}"#,
                "BAD_REQUEST: \"age\" must be a whole number that is not negative",
                "/age",
            ),
            (
                r#"{"name": "a", "items": [{}]}"#,
                "BAD_REQUEST: \"items.0.name\" is required",
                "/items/0/name",
            ),
            (
                r#"{"name": "a", "items": {"name": "a"}}"#,
                "BAD_REQUEST: \"items\" must be an array",
                "/items",
            ),
            (
                r#"{"name": "a", "items": [{"name": 1}]}"#,
                "BAD_REQUEST: \"items.0.name\" must be a string",
                "/items/0/name",
            ),
            (
                r#"{"name": "a", "colors": ["red", "blue"]}"#,
                "BAD_REQUEST: \"colors.1\" must be one of [red, green]",
                "/colors/1",
            ),
            (
                r#"{"name": "a", "colors": [5]}"#,
                "BAD_REQUEST: \"colors.0\" must be one of [red, green]",
                "/colors/0",
            ),
            (
                r#"{"name": "a\u0000"}"#,
                "BAD_REQUEST: \"name\" is not valid: it contains the character U+0000",
                "/name",
            ),
            (
                r#"["a", null, 3]"#,
                "BAD_REQUEST: \"body\" must be an object",
                "",
            ),
        ];
        for (body, message, pointer) in cases {
            assert_eq!(
                complaint(body),
                (message.to_owned(), pointer.to_owned()),
                "{body}"
            );
        }
    }

    #[test]
    fn invalid_json_has_its_own_message() {
        for body in ["{", "{\"name\": \"a\"} x", "\u{feff}{}", "nope"] {
            assert!(complaint(body).0.contains("not valid JSON"), "{body}");
        }
        assert!(parse_body::<Body>(b"{\"name\": \"\xff\"}").is_err());
        let deep = format!("{{\"x\": {}1{}}}", "[".repeat(500), "]".repeat(500));
        assert!(complaint(&deep).0.contains("recursion limit"));
    }

    #[test]
    fn a_blank_body_is_an_empty_object() {
        assert!(parse_body::<Empty>(b" \n").is_ok());
    }

    #[derive(Debug, Deserialize, Validate, JsonSchema)]
    struct Search {
        #[garde(range(max = 100))]
        #[serde(default)]
        per_page: Option<u32>,
        #[garde(skip)]
        #[serde(default)]
        text: Option<String>,
        #[garde(skip)]
        #[serde(default)]
        #[expect(dead_code, reason = "only parsed")]
        color: Option<Color>,
        #[garde(skip)]
        #[serde(default)]
        #[expect(dead_code, reason = "only parsed")]
        live: Option<bool>,
    }

    #[test]
    fn a_query_is_parsed_and_its_errors_name_the_parameter() {
        let good: Search = parse_query("per_page=5&unknown=1&text=a%20b").unwrap();
        assert_eq!(
            (good.per_page, good.text.as_deref()),
            (Some(5), Some("a b"))
        );
        assert_eq!(parse_query::<Search>("per_page=").unwrap().per_page, None);
        let whole = "must be a whole number that is not negative";
        for (bad, complaint) in [
            ("per_page=x", whole),
            ("per_page=-1", whole),
            ("per_page=1.5", whole),
            ("per_page=101", "greater than 100"),
            ("per_page=4294967296", "is too large"),
            ("per_page=1&per_page=2", "is listed more than once"),
            ("color=blue", "must be one of [red, green]"),
            ("color=red&color=red", "is listed more than once"),
            ("live=5", "must be a boolean"),
            ("text=a&text=b", "is listed more than once"),
            ("text=%00", "is not valid: it contains the character U+0000"),
        ] {
            let error = parse_query::<Search>(bad).unwrap_err();
            let name = bad.split('=').next().unwrap();
            let problem = &error.problems()[0];
            assert_eq!(
                problem.message,
                format!("BAD_REQUEST: \"{name}\" {complaint}"),
                "{bad}"
            );
            assert_eq!(problem.pointer, None, "{bad}");
        }
    }
}
