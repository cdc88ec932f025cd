//! Strict deserialization of untrusted input, with structured errors.
//!
//! By itself, serde accepts an array for a struct and lets the last of two duplicate keys win.
//! [`deserialize`] wraps any deserializer and rejects both at every depth, as well as U+0000 in
//! strings. It accepts 1.0 for 1. An [`Error`] has the path and the kind of the first error, from
//! which the error response is built.

use std::cell::RefCell;
use std::collections::HashSet;
use std::convert::identity;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};

/// The first error in the input.
#[derive(Debug)]
pub struct Error<E> {
    /// The segments from the root to the value that caused the error.
    pub path: Vec<String>,
    /// What is wrong with that value.
    pub kind: ErrorKind,
    /// The error of the deserializer.
    pub source: E,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// The value is a required field, which is missing.
    Missing,
    /// The object has the key of this value more than once.
    Duplicate,
    /// The value has a type or content other than the expected one.
    Invalid {
        /// What was expected, in the words of the type's [`Visitor`].
        expected: String,
    },
    /// The value is none of the allowed names.
    UnknownVariant {
        /// The allowed names.
        expected: &'static [&'static str],
    },
    /// A string contains U+0000.
    Nul,
    /// Any other error, as text.
    Other(String),
}

/// Deserializes a `T`, and is strict at every depth.
///
/// # Errors
///
/// Fails if the input is malformed, or is not a `T`.
pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, Error<D::Error>>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let context = Context::default();
    let strict = Strict {
        inner: deserializer,
        context: &context,
    };
    let result = context.unwrap_detail(T::deserialize(strict));
    result.map_err(|source| {
        let Failure { mut path, kind } = context.0.into_inner();
        path.reverse();
        Error {
            path,
            kind: kind.unwrap_or_else(|| ErrorKind::Other(source.to_string())),
            source,
        }
    })
}

/// The error type that deserialized types see: the error of the deserializer, and the detail that
/// it would lose.
#[derive(Debug)]
struct Detailed<E> {
    error: E,
    detail: Option<Box<Detail>>,
}

#[derive(Debug)]
struct Detail {
    kind: ErrorKind,
    /// The field that the error is about, if it is not the value being deserialized.
    field: Option<&'static str>,
}

impl<E> Detailed<E> {
    /// An error of the deserializer itself, or one whose detail has been recorded.
    fn plain(error: E) -> Self {
        Self {
            error,
            detail: None,
        }
    }

    fn new(error: E, kind: ErrorKind, field: Option<&'static str>) -> Self {
        Self {
            error,
            detail: Some(Box::new(Detail { kind, field })),
        }
    }
}

impl<E: fmt::Display> fmt::Display for Detailed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<E: std::error::Error> std::error::Error for Detailed<E> {}

impl<E: de::Error> de::Error for Detailed<E> {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        Self::new(E::custom(message), ErrorKind::Other(text), None)
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let kind = ErrorKind::Invalid {
            expected: expected.to_string(),
        };
        Self::new(E::invalid_type(unexpected, expected), kind, None)
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let kind = ErrorKind::Invalid {
            expected: expected.to_string(),
        };
        Self::new(E::invalid_value(unexpected, expected), kind, None)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let kind = ErrorKind::UnknownVariant { expected };
        Self::new(E::unknown_variant(variant, expected), kind, None)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(E::missing_field(field), ErrorKind::Missing, Some(field))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(E::duplicate_field(field), ErrorKind::Duplicate, Some(field))
    }
}

/// Collects what is known about an error while the stack unwinds.
#[derive(Default)]
struct Context(RefCell<Failure>);

#[derive(Default)]
struct Failure {
    /// Path to the error, innermost segment first.
    path: Vec<String>,
    kind: Option<ErrorKind>,
}

impl Context {
    /// Records an error where it occurs, and forgets an earlier one that did not end
    /// deserialization.
    #[cold]
    fn record(&self, kind: ErrorKind, field: Option<&str>) {
        *self.0.borrow_mut() = Failure {
            path: field.map(str::to_owned).into_iter().collect(),
            kind: Some(kind),
        };
    }

    /// Adds a segment to the path of an error.
    fn add_segment<T, E>(
        &self,
        result: Result<T, E>,
        segment: impl FnOnce() -> String,
    ) -> Result<T, Detailed<E>> {
        result.map_err(|error| {
            self.0.borrow_mut().path.push(segment());
            Detailed::plain(error)
        })
    }

    /// Records the detail of an error and returns the deserializer's error.
    fn unwrap_detail<T, E>(&self, result: Result<T, Detailed<E>>) -> Result<T, E> {
        result.map_err(|Detailed { error, detail }| {
            if let Some(detail) = detail {
                self.record(detail.kind, detail.field);
            }
            error
        })
    }

    /// Rejects U+0000, which some databases cannot store in strings.
    fn without_nul<'t, E: de::Error>(&self, text: &'t str) -> Result<&'t str, E> {
        if text.contains('\0') {
            self.record(ErrorKind::Nul, None);
            Err(E::custom("it contains the character U+0000"))
        } else {
            Ok(text)
        }
    }

    /// Records what was expected, if the deserializer did not say.
    fn expect<T, E>(&self, result: Result<T, E>, expected: &str) -> Result<T, Detailed<E>> {
        result.map_err(|error| {
            if self.0.borrow().kind.is_none() {
                let expected = expected.to_owned();
                self.record(ErrorKind::Invalid { expected }, None);
            }
            Detailed::plain(error)
        })
    }
}

/// Wraps a deserializer, seed, visitor or access and makes it strict at every depth.
struct Strict<'c, T> {
    inner: T,
    context: &'c Context,
}

impl<'c, T> Strict<'c, T> {
    fn wrap<U>(&self, inner: U) -> Strict<'c, U> {
        Strict {
            inner,
            context: self.context,
        }
    }
}

macro_rules! forward {
    ($($method:ident($($argument:ident: $type:ty),*) => $target:ident($($passed:ident),*);)*) => {$(
        fn $method<V: Visitor<'de>>(self $(, $argument: $type)*, visitor: V) -> Result<V::Value, Self::Error> {
            $(let _ = &$argument;)*
            let visitor = self.wrap(visitor);
            self.inner.$target($($passed,)* visitor).map_err(Detailed::plain)
        }
    )*};
}

/// The deserializer of a query string parses these types itself, and its errors do not say what was
/// expected.
macro_rules! scalars {
    ($($method:ident($wrapper:path) expects $expected:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            let visitor = self.wrap($wrapper(visitor));
            self.context.expect(self.inner.$method(visitor), $expected)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<'_, D> {
    type Error = Detailed<D::Error>;

    scalars! {
        deserialize_bool(identity) expects "a boolean";
        deserialize_i8(IntegerVisitor) expects "i8";
        deserialize_i16(IntegerVisitor) expects "i16";
        deserialize_i32(IntegerVisitor) expects "i32";
        deserialize_i64(IntegerVisitor) expects "i64";
        deserialize_i128(IntegerVisitor) expects "i128";
        deserialize_u8(IntegerVisitor) expects "u8";
        deserialize_u16(IntegerVisitor) expects "u16";
        deserialize_u32(IntegerVisitor) expects "u32";
        deserialize_u64(IntegerVisitor) expects "u64";
        deserialize_u128(IntegerVisitor) expects "u128";
        deserialize_f32(identity) expects "f32";
        deserialize_f64(identity) expects "f64";
    }

    forward! {
        deserialize_any() => deserialize_any();
        deserialize_char() => deserialize_char();
        deserialize_str() => deserialize_str();
        deserialize_string() => deserialize_string();
        deserialize_bytes() => deserialize_bytes();
        deserialize_byte_buf() => deserialize_byte_buf();
        deserialize_option() => deserialize_option();
        deserialize_unit() => deserialize_unit();
        deserialize_unit_struct(name: &'static str) => deserialize_unit_struct(name);
        deserialize_newtype_struct(name: &'static str) => deserialize_newtype_struct(name);
        deserialize_seq() => deserialize_seq();
        deserialize_tuple(len: usize) => deserialize_tuple(len);
        deserialize_tuple_struct(name: &'static str, len: usize) => deserialize_tuple_struct(name, len);
        deserialize_map() => deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]) => deserialize_map();
        deserialize_identifier() => deserialize_identifier();
        deserialize_ignored_any() => deserialize_any();
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        // `deserialize_enum` of serde_json calls a number a syntax error.
        self.deserialize_any(EnumVisitor { visitor, variants })
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident: $type:ty;)*) => {$(
        fn $method<E: de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.context.unwrap_detail(self.inner.$method(value))
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Strict<'_, V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only called by a deserializer that fails: it found another type than the visitor wants.
        let expected = (&self.inner as &dyn Expected).to_string();
        formatter.write_str(&expected)?;
        self.context.record(ErrorKind::Invalid { expected }, None);
        Ok(())
    }

    visit! {
        visit_bool: bool;
        visit_i8: i8;
        visit_i16: i16;
        visit_i32: i32;
        visit_i64: i64;
        visit_i128: i128;
        visit_u8: u8;
        visit_u16: u16;
        visit_u32: u32;
        visit_u64: u64;
        visit_u128: u128;
        visit_f32: f32;
        visit_f64: f64;
        visit_char: char;
        visit_bytes: &[u8];
        visit_borrowed_bytes: &'de [u8];
        visit_byte_buf: Vec<u8>;
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<V::Value, E> {
        let text = self.context.without_nul(text)?;
        self.context.unwrap_detail(self.inner.visit_str(text))
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<V::Value, E> {
        let text = self.context.without_nul(text)?;
        self.context
            .unwrap_detail(self.inner.visit_borrowed_str(text))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<V::Value, E> {
        self.context.without_nul(&text)?;
        self.context.unwrap_detail(self.inner.visit_string(text))
    }

    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.context.unwrap_detail(self.inner.visit_none())
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.context.unwrap_detail(self.inner.visit_unit())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let deserializer = self.wrap(deserializer);
        self.context
            .unwrap_detail(self.inner.visit_some(deserializer))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let deserializer = self.wrap(inner);
        self.context
            .unwrap_detail(self.inner.visit_newtype_struct(deserializer))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let access = Items {
            access: self.wrap(access),
            index: 0,
        };
        self.context.unwrap_detail(self.inner.visit_seq(access))
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let access = Entries {
            access: self.wrap(access),
            key: String::new(),
            seen: SeenKeys::default(),
        };
        self.context.unwrap_detail(self.inner.visit_map(access))
    }
}

/// Accepts 1.0 for 1: JSON does not distinguish them, and neither can callers in some languages.
struct IntegerVisitor<V>(V);

/// Largest float that is converted: up to 2^53, every integer has an exact representation.
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

impl<'de, V: Visitor<'de>> Visitor<'de> for IntegerVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(formatter)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<V::Value, E> {
        self.0.visit_i64(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<V::Value, E> {
        self.0.visit_u64(value)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the value is an integer within ±2^53"
    )]
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<V::Value, E> {
        if value.fract() != 0.0 || value.abs() > MAX_EXACT_INTEGER {
            return self.0.visit_f64(value);
        }
        self.0.visit_i64(value as i64)
    }
}

/// Accepts a name, or an object with a name as its only key.
struct EnumVisitor<V> {
    visitor: V,
    variants: &'static [&'static str],
}

impl<'de, V: Visitor<'de>> Visitor<'de> for EnumVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "one of [{}]", self.variants.join(", "))
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<V::Value, E> {
        self.visitor.visit_enum(name.into_deserializer())
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(MapAccessDeserializer::new(access))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let deserializer = self.wrap(deserializer);
        self.context
            .unwrap_detail(self.inner.deserialize(deserializer))
    }
}

/// Elements of an array, with the current index.
struct Items<'c, A> {
    access: Strict<'c, A>,
    index: usize,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<'_, A> {
    type Error = Detailed<A::Error>;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Self::Error> {
        let index = self.index;
        self.index += 1;
        let seed = self.access.wrap(seed);
        let result = self.access.inner.next_element_seed(seed);
        self.access
            .context
            .add_segment(result, || index.to_string())
    }

    fn size_hint(&self) -> Option<usize> {
        self.access.inner.size_hint()
    }
}

/// Entries of an object. Rejects duplicate keys.
struct Entries<'c, A> {
    access: Strict<'c, A>,
    key: String,
    seen: SeenKeys,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'_, A> {
    type Error = Detailed<A::Error>;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Self::Error> {
        self.key.clear();
        let seed = self.access.wrap(KeySeed {
            seed,
            key: &mut self.key,
        });
        let found = self.access.inner.next_key_seed(seed);
        let found = found.map_err(Detailed::plain)?;
        if found.is_some() && !self.seen.insert(&self.key) {
            let context = self.access.context;
            context.record(ErrorKind::Duplicate, Some(&self.key));
            return Err(Detailed::plain(de::Error::custom("duplicate key")));
        }
        Ok(found)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<T::Value, Self::Error> {
        let seed = self.access.wrap(seed);
        let result = self.access.inner.next_value_seed(seed);
        self.access.context.add_segment(result, || self.key.clone())
    }

    fn size_hint(&self) -> Option<usize> {
        self.access.inner.size_hint()
    }
}

/// Hashes of an object's keys so far, stored inline while there are few.
#[derive(Default)]
struct SeenKeys {
    few: [u64; 16],
    count: usize,
    many: HashSet<u64>,
}

impl SeenKeys {
    fn insert(&mut self, key: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let hash = hasher.finish();
        if self.few[..self.count].contains(&hash) || self.many.contains(&hash) {
            return false;
        }
        if let Some(slot) = self.few.get_mut(self.count) {
            *slot = hash;
            self.count += 1;
        } else {
            self.many.insert(hash);
        }
        true
    }
}

/// Deserializes a key and keeps a copy of it.
struct KeySeed<'k, S> {
    seed: S,
    key: &'k mut String,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for KeySeed<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let text = deserializer.deserialize_str(KeyText)?;
        self.key.push_str(&text);
        self.seed
            .deserialize(de::value::CowStrDeserializer::new(text))
    }
}

struct KeyText;

impl<'de> Visitor<'de> for KeyText {
    type Value = std::borrow::Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(text.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(text.to_owned().into())
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only parsed")]
    struct Outer {
        items: Vec<Inner>,
        #[serde(default, alias = "colours")]
        colors: Vec<Color>,
        #[serde(default)]
        by_color: BTreeMap<Color, u8>,
        shape: Option<Shape>,
        either: Option<Either>,
        flat: Option<Flat>,
        hour: Option<Hour>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only parsed")]
    struct Inner {
        name: String,
    }

    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Color {
        Red,
        Green,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Shape {
        Point,
        Circle(u8),
        Box { width: u8 },
    }

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "only parsed")]
    enum Either {
        Number(u8),
        Name { name: String },
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only parsed")]
    struct Flat {
        #[serde(flatten)]
        inner: Inner,
    }

    #[derive(Debug)]
    struct Hour;

    impl<'de> Deserialize<'de> for Hour {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            match u8::deserialize(deserializer)? {
                0..24 => Ok(Self),
                hour => Err(de::Error::custom(format_args!("a day has no hour {hour}"))),
            }
        }
    }

    fn parse<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Error<serde_json::Error>> {
        deserialize(&mut serde_json::Deserializer::from_str(text))
    }

    fn failure(text: &str) -> (String, ErrorKind) {
        let error = parse::<Outer>(text).unwrap_err();
        assert!(error.source.is_data(), "{error:?}");
        let value = serde_json::from_str::<serde_json::Value>(text).unwrap();
        if error.kind != ErrorKind::Duplicate {
            let of_value = deserialize::<Outer, _>(value).unwrap_err();
            assert_eq!((&of_value.path, &of_value.kind), (&error.path, &error.kind));
        }
        (error.path.join("/"), error.kind)
    }

    fn invalid(expected: &str) -> ErrorKind {
        ErrorKind::Invalid {
            expected: expected.to_owned(),
        }
    }

    #[test]
    fn errors_have_a_path_and_a_kind() {
        const COLORS: ErrorKind = ErrorKind::UnknownVariant {
            expected: &["red", "green"],
        };
        let other = |text: &str| ErrorKind::Other(text.to_owned());
        let cases = [
            (r"{}", "items", ErrorKind::Missing),
            (
                r#"{"items": [{"name": "a"}, {}]}"#,
                "items/1/name",
                ErrorKind::Missing,
            ),
            (r#"{"items": [["x"]]}"#, "items/0", invalid("struct Inner")),
            (
                r#"{"items": [{"name": 1}]}"#,
                "items/0/name",
                invalid("a string"),
            ),
            (
                r#"{"items": [{"name": "\u0000"}]}"#,
                "items/0/name",
                ErrorKind::Nul,
            ),
            (r#"{"items": {}}"#, "items", invalid("a sequence")),
            (r#"{"\u0000": 1}"#, "", ErrorKind::Nul),
            (r#"{"colors": ["red", "blue"]}"#, "colors/1", COLORS),
            (
                r#"{"colors": [1]}"#,
                "colors/0",
                invalid("one of [red, green]"),
            ),
            (
                r#"{"colors": [], "colours": []}"#,
                "colors",
                ErrorKind::Duplicate,
            ),
            (r#"{"by_color": {"blue": 1}}"#, "by_color", COLORS),
            (
                r#"{"by_color": {"red": "x"}}"#,
                "by_color/red",
                invalid("u8"),
            ),
            (
                r#"{"by_color": {"red": 256}}"#,
                "by_color/red",
                invalid("u8"),
            ),
            (
                r#"{"shape": {"circle": -1}}"#,
                "shape/circle",
                invalid("u8"),
            ),
            (
                r#"{"shape": {"box": {}}}"#,
                "shape/box/width",
                ErrorKind::Missing,
            ),
            (
                r#"{"shape": {"box": [1]}}"#,
                "shape/box",
                invalid("struct variant Shape::Box"),
            ),
            (
                r#"{"either": true}"#,
                "either",
                other("data did not match any variant of untagged enum Either"),
            ),
            (r#"{"flat": {}}"#, "flat/name", ErrorKind::Missing),
            (r#"{"flat": {"name": 1}}"#, "flat", invalid("a string")),
            (r#"{"hour": 24}"#, "hour", other("a day has no hour 24")),
            ("[]", "", invalid("struct Outer")),
        ];
        for (text, path, kind) in cases {
            assert_eq!(failure(text), (path.to_owned(), kind), "{text}");
        }
    }

    #[test]
    fn a_key_given_twice_is_refused_even_where_it_is_ignored() {
        let duplicate = failure(r#"{"items": [], "x": {"a": 1, "a": 2}}"#);
        assert_eq!(duplicate, ("x/a".to_owned(), ErrorKind::Duplicate));
    }

    #[test]
    fn the_last_error_counts_where_a_type_ignores_others() {
        #[derive(Debug)]
        struct Lenient;

        impl<'de> Deserialize<'de> for Lenient {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let _ = Vec::<Inner>::deserialize(deserializer);
                Ok(Self)
            }
        }

        let value = serde_json::json!([[{"name": 1}], 300]);
        let error = deserialize::<(Lenient, u8), _>(value).unwrap_err();
        assert_eq!(
            (error.path, error.kind),
            (vec!["1".to_owned()], invalid("u8"))
        );
    }

    #[test]
    fn malformed_input_keeps_the_error_of_the_deserializer() {
        for text in [
            r#"{"items": [{"name": "#,
            r#"{"hour": x}"#,
            r#"{"colors": [re"#,
        ] {
            let error = parse::<Outer>(text).unwrap_err();
            assert!(!error.source.is_data(), "{error:?}");
        }
    }

    #[test]
    fn an_enum_is_a_name_or_an_object_with_one_name() {
        let shape = |text: &str| parse::<Shape>(text).ok();
        assert_eq!(shape(r#""point""#), Some(Shape::Point));
        assert_eq!(shape(r#"{"circle": 1.0}"#), Some(Shape::Circle(1)));
        assert_eq!(
            shape(r#"{"box": {"width": 1}}"#),
            Some(Shape::Box { width: 1 })
        );
        for bad in [r#""circle""#, "{}", r#"{"circle": 1, "point": null}"#] {
            assert_eq!(shape(bad), None, "{bad}");
        }
    }

    #[test]
    fn one_point_zero_is_one() {
        let whole = |text: &str| parse::<Option<u32>>(text).ok();
        assert_eq!(whole("30.0"), Some(Some(30)));
        assert_eq!(whole("3e1"), Some(Some(30)));
        assert_eq!(
            [
                whole("30.5"),
                whole("-1.0"),
                whole("1e300"),
                whole("\"30\"")
            ],
            [None; 4]
        );
    }

    #[test]
    fn more_keys_than_fit_inline_are_still_told_apart() {
        let keys: Vec<String> = (0..40).map(|n| format!("\"k{n}\": 1")).collect();
        let good = format!("{{\"items\": [], {}}}", keys.join(","));
        assert!(parse::<Outer>(&good).is_ok());
        let bad = format!("{{\"items\": [], {}, \"k39\": 1}}", keys.join(","));
        assert_eq!(parse::<Outer>(&bad).unwrap_err().path, ["k39"]);
    }
}
