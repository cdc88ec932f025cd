//! Foreign input into typed values: bodies, query strings, path parameters.
//!
//! Everything that is wrong is told in the words that `RealtimeKit`'s clients match on
//! (`BAD_REQUEST: "preset_name" is required`), with a JSON pointer for bodies.

use std::str::FromStr;

use axum::extract::RawPathParams;
use garde::Validate;
use parlor_protocol::strict::{Strict, Track};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{ApiError, Problem};

/// What may stand in a body or a query string: parsed by serde, limited by garde, described by
/// schemars.
pub trait Input: DeserializeOwned + Validate<Context = ()> + JsonSchema + Send + 'static {}

impl<T: DeserializeOwned + Validate<Context = ()> + JsonSchema + Send + 'static> Input for T {}

/// For operations that take no query parameters or no body. What is sent is ignored.
#[derive(Debug, Default, Deserialize, Validate, JsonSchema)]
#[garde(allow_unvalidated)]
pub struct Nothing {}

/// Parses a JSON body. A blank one counts as `{}`, which is how the SDKs send operations without
/// fields.
///
/// # Errors
/// 400 with one problem for each thing that is wrong, as far as parsing got.
pub fn parse_body<T: Input>(bytes: &[u8]) -> Result<T, ApiError> {
    let bytes = if bytes.trim_ascii().is_empty() {
        b"{}"
    } else {
        bytes
    };
    let track = Track::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = T::deserialize(Strict::new(&mut deserializer, &track));
    match parsed.and_then(|value| deserializer.end().map(|()| value)) {
        Ok(value) => validated(value, Place::Body),
        Err(error) => Err(ApiError::invalid(vec![explain_json(&error, &track.path())])),
    }
}

/// Parses a query string. Empty values count as absent, but for a custom id, which is refused;
/// unknown names are ignored.
///
/// # Errors
/// 400 that names the parameter.
pub fn parse_query<T: Input>(query: &str) -> Result<T, ApiError> {
    let track = Track::default();
    let pairs = url::form_urlencoded::parse(query.as_bytes())
        // An unset variable in a caller's code must not turn "this person" into "everybody".
        .filter(|(name, value)| !value.is_empty() || name == "custom_participant_id");
    let kept = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish();
    let deserializer = serde_html_form::Deserializer::from_bytes(kept.as_bytes());
    match T::deserialize(Strict::new(deserializer, &track)) {
        Ok(value) => validated(value, Place::Query),
        Err(error) => {
            let problem = explain(&error.to_string(), &track.path(), Place::Query);
            Err(ApiError::invalid(vec![problem]))
        }
    }
}

/// Types a JSON value that was put together from a body and what was there before.
///
/// # Errors
/// 400 with pointers into the value.
pub fn checked<T: Input>(value: serde_json::Value) -> Result<T, ApiError> {
    let track = Track::default();
    match T::deserialize(Strict::new(value, &track)) {
        Ok(value) => validated(value, Place::Body),
        Err(error) => Err(ApiError::invalid(vec![explain(
            &error.to_string(),
            &track.path(),
            Place::Body,
        )])),
    }
}

/// Where a value came from; only bodies have JSON pointers.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Body,
    Query,
}

fn validated<T: Input>(value: T, place: Place) -> Result<T, ApiError> {
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
        problem(&path, message, place)
    });
    Err(ApiError::invalid(problems.collect()))
}

fn problem(path: &[String], complaint: &str, place: Place) -> Problem {
    let name = if path.is_empty() {
        "body".to_owned()
    } else {
        path.join(".")
    };
    let message = format!("BAD_REQUEST: \"{name}\" {complaint}");
    match place {
        Place::Body => Problem::at(pointer(path), message),
        Place::Query => Problem::new(message),
    }
}

fn pointer(path: &[String]) -> String {
    path.iter()
        .map(|segment| format!("/{}", segment.replace('~', "~0").replace('/', "~1")))
        .collect()
}

fn explain_json(error: &serde_json::Error, path: &[String]) -> Problem {
    use serde_json::error::Category;
    match error.classify() {
        Category::Data => explain(&error.to_string(), path, Place::Body),
        Category::Eof | Category::Syntax | Category::Io => Problem::at(
            "",
            format!("BAD_REQUEST: the body is not valid JSON: {error}"),
        ),
    }
}

/// Turns serde's words into the API's.
fn explain(text: &str, path: &[String], place: Place) -> Problem {
    let text = text.split(" at line ").next().unwrap_or(text);
    let quoted = |prefix: &str| {
        text.strip_prefix(prefix)?
            .split('`')
            .next()
            .map(str::to_owned)
    };
    if let Some(field) = quoted("missing field `") {
        let mut path = path.to_vec();
        path.push(field);
        return problem(&path, "is required", place);
    }
    if text == "duplicate key" || text.starts_with("duplicate field") {
        return problem(path, "stands there more than once", place);
    }
    if let Some((_, expected)) = text.split_once(", expected ") {
        if text.starts_with("unknown variant") {
            let allowed = expected.trim_start_matches("one of ").replace('`', "");
            return problem(path, &format!("must be one of [{allowed}]"), place);
        }
        if text.starts_with("invalid type") || text.starts_with("invalid value") {
            return problem(path, &format!("must be {}", plainly(expected)), place);
        }
    }
    if text.starts_with("invalid digit") {
        return problem(path, "must be a whole number that is not negative", place);
    }
    if text.starts_with("number too large") {
        return problem(path, "is too large", place);
    }
    problem(path, &format!("is not valid: {text}"), place)
}

fn plainly(expected: &str) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative".into(),
        "i8" | "i16" | "i32" | "i64" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        "a sequence" => "an array".into(),
        "a map" => "an object".into(),
        other if other.starts_with("struct ") => "an object".into(),
        other => other.into(),
    }
}

/// The parameters of a path that follow the account and the app.
pub trait FromPath: JsonSchema + Sized + Send + 'static {
    /// Reads them.
    ///
    /// # Errors
    /// 400 that names the parameter.
    fn from_path(params: &PathParams<'_>) -> Result<Self, ApiError>;
}

impl FromPath for Nothing {
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

    /// One parameter as an id.
    ///
    /// # Errors
    /// 400 in the known words when it is not one.
    pub fn id<T: FromStr>(&self, name: &str) -> Result<T, ApiError> {
        let value = self.raw(name).unwrap_or_default();
        value.parse().map_err(|_| invalid_id(name))
    }
}

/// The 400 for an id of the wrong form: the known words, then the parameter's own name.
pub(super) fn invalid_id(name: &str) -> ApiError {
    let message = format!("BAD_REQUEST \"id\" must be a valid GUID (path parameter \"{name}\")");
    ApiError::invalid(vec![Problem::new(message)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, Validate, JsonSchema)]
    struct Person {
        #[garde(length(chars, min = 1, max = 5))]
        name: String,
        #[garde(length(chars, max = 3))]
        nick: Option<String>,
        #[garde(range(min = 1, max = 10))]
        #[serde(default)]
        age: Option<u8>,
    }

    fn complaint(body: &str) -> (String, String) {
        let error = parse_body::<Person>(body.as_bytes()).unwrap_err();
        let problem = &error.problems()[0];
        (problem.message.clone(), problem.pointer.clone().unwrap())
    }

    #[test]
    fn what_is_wrong_is_told_in_the_known_words() {
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
                "BAD_REQUEST: \"name\" stands there more than once",
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
    fn what_is_not_json_is_told_apart() {
        for body in ["{", "{\"name\": \"a\"} x", "\u{feff}{}", "nope"] {
            assert!(complaint(body).0.contains("not valid JSON"), "{body}");
        }
        assert!(parse_body::<Person>(b"{\"name\": \"\xff\"}").is_err());
        let deep = format!("{{\"x\": {}1{}}}", "[".repeat(500), "]".repeat(500));
        assert!(complaint(&deep).0.contains("recursion limit"));
    }

    #[test]
    fn a_blank_body_is_an_empty_object() {
        assert!(parse_body::<Nothing>(b" \n").is_ok());
    }

    #[derive(Debug, Deserialize, Validate, JsonSchema)]
    struct Search {
        #[garde(range(max = 100))]
        #[serde(default)]
        per_page: Option<u32>,
        #[garde(skip)]
        #[serde(default)]
        search: Option<String>,
    }

    #[test]
    fn a_query_is_parsed_and_its_mistakes_are_named() {
        let good: Search = parse_query("per_page=5&unknown=1&search=a%20b").unwrap();
        assert_eq!(
            (good.per_page, good.search.as_deref()),
            (Some(5), Some("a b"))
        );
        assert_eq!(parse_query::<Search>("per_page=").unwrap().per_page, None);
        for bad in [
            "per_page=x",
            "per_page=-1",
            "per_page=101",
            "per_page=1&per_page=2",
        ] {
            let error = parse_query::<Search>(bad).unwrap_err();
            assert!(
                error.problems()[0].message.contains("\"per_page\""),
                "{bad}: {error:?}"
            );
        }
    }
}
