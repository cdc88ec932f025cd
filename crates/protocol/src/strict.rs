//! Deserialising foreign input strictly, and telling where it went wrong.
//!
//! serde by itself takes an array for a struct and lets the last of two equal keys win. [`Strict`]
//! wraps any deserializer and refuses both at every depth, and U+0000 in any text. It takes 1.0
//! for 1, and remembers the path of the first error so that the answer can point at it.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// The path of the first error, innermost segment first while it is being unwound.
#[derive(Debug, Default)]
pub struct Track(RefCell<Vec<String>>);

impl Track {
    /// The segments from the root to the error.
    pub fn path(self) -> Vec<String> {
        let mut segments = self.0.into_inner();
        segments.reverse();
        segments
    }

    fn note<T, E>(&self, result: Result<T, E>, segment: impl FnOnce() -> String) -> Result<T, E> {
        if result.is_err() {
            self.0.borrow_mut().push(segment());
        }
        result
    }
}

/// A deserializer, seed, visitor or access that is strict all the way down.
#[derive(Debug)]
pub struct Strict<'t, T> {
    inner: T,
    track: &'t Track,
}

impl<'t, T> Strict<'t, T> {
    /// Wraps a deserializer.
    pub fn new(inner: T, track: &'t Track) -> Self {
        Self { inner, track }
    }

    fn wrap<U>(&self, inner: U) -> Strict<'t, U> {
        Strict {
            inner,
            track: self.track,
        }
    }
}

macro_rules! forward {
    ($($method:ident($($argument:ident: $type:ty),*) => $target:ident($($passed:ident),*);)*) => {$(
        fn $method<V: Visitor<'de>>(self $(, $argument: $type)*, visitor: V) -> Result<V::Value, D::Error> {
            $(let _ = &$argument;)*
            let visitor = self.wrap(visitor);
            self.inner.$target($($passed,)* visitor)
        }
    )*};
}

macro_rules! whole {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.wrap(Whole(visitor));
            self.inner.$method(visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<'_, D> {
    type Error = D::Error;

    whole! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    forward! {
        deserialize_any() => deserialize_any();
        deserialize_bool() => deserialize_bool();
        deserialize_f32() => deserialize_f32();
        deserialize_f64() => deserialize_f64();
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
        deserialize_enum(name: &'static str, variants: &'static [&'static str]) => deserialize_enum(name, variants);
        deserialize_identifier() => deserialize_identifier();
        deserialize_ignored_any() => deserialize_any();
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident: $type:ty;)*) => {$(
        fn $method<E: de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Strict<'_, V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(formatter)
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
        self.inner.visit_str(without_nul(text)?)
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<V::Value, E> {
        self.inner.visit_borrowed_str(without_nul(text)?)
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<V::Value, E> {
        without_nul(&text)?;
        self.inner.visit_string(text)
    }

    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let deserializer = self.wrap(deserializer);
        self.inner.visit_some(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let deserializer = self.wrap(inner);
        self.inner.visit_newtype_struct(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let access = Items {
            access: self.wrap(access),
            index: 0,
        };
        self.inner.visit_seq(access)
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let access = Entries {
            access: self.wrap(access),
            key: String::new(),
            seen: Seen::default(),
        };
        self.inner.visit_map(access)
    }

    fn visit_enum<A: de::EnumAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(access)
    }
}

/// Takes 1.0 for 1: JSON does not tell them apart, and callers in some languages cannot either.
struct Whole<V>(V);

/// Floats up to this size stand for one whole number each: 2^53.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

impl<'de, V: Visitor<'de>> Visitor<'de> for Whole<V> {
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
        reason = "it is whole and within 2^53"
    )]
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<V::Value, E> {
        if value.fract() != 0.0 || value.abs() > WHOLE_MAX {
            return self.0.visit_f64(value);
        }
        self.0.visit_i64(value as i64)
    }
}

/// No database keeps U+0000 in a text, so it is refused at the door.
fn without_nul<E: de::Error>(text: &str) -> Result<&str, E> {
    if text.contains('\0') {
        Err(E::custom("it contains the character U+0000"))
    } else {
        Ok(text)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let deserializer = self.wrap(deserializer);
        self.inner.deserialize(deserializer)
    }
}

/// The items of an array, numbered.
struct Items<'t, A> {
    access: Strict<'t, A>,
    index: usize,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        let index = self.index;
        self.index += 1;
        let seed = self.access.wrap(seed);
        let result = self.access.inner.next_element_seed(seed);
        self.access.track.note(result, || index.to_string())
    }

    fn size_hint(&self) -> Option<usize> {
        self.access.inner.size_hint()
    }
}

/// The entries of an object, each key once.
struct Entries<'t, A> {
    access: Strict<'t, A>,
    key: String,
    seen: Seen,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        self.key.clear();
        let found = self.access.inner.next_key_seed(KeySeed {
            seed,
            key: &mut self.key,
        })?;
        if found.is_some() && !self.seen.insert(&self.key) {
            self.access.track.0.borrow_mut().push(self.key.clone());
            return Err(de::Error::custom("duplicate key"));
        }
        Ok(found)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        let seed = self.access.wrap(seed);
        let result = self.access.inner.next_value_seed(seed);
        self.access.track.note(result, || self.key.clone())
    }

    fn size_hint(&self) -> Option<usize> {
        self.access.inner.size_hint()
    }
}

/// The keys of one object so far: by hash, inline while they are few.
#[derive(Default)]
struct Seen {
    few: [u64; 16],
    count: usize,
    many: HashSet<u64>,
}

impl Seen {
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

/// Reads a key and keeps a copy of its text.
struct KeySeed<'k, S> {
    seed: S,
    key: &'k mut String,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for KeySeed<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let text = deserializer.deserialize_str(KeyText)?;
        without_nul::<D::Error>(&text)?;
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
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Outer {
        #[expect(dead_code, reason = "only its parsing matters")]
        items: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        #[expect(dead_code, reason = "only its parsing matters")]
        name: String,
    }

    fn parse(text: &str) -> Result<Outer, (Vec<String>, String)> {
        let track = Track::default();
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let result = Outer::deserialize(Strict::new(&mut deserializer, &track));
        result.map_err(|error| (track.path(), error.to_string()))
    }

    #[test]
    fn an_array_is_not_an_object() {
        let (path, message) = parse(r#"{"items": [["x"]]}"#).unwrap_err();
        assert_eq!(path, ["items", "0"]);
        assert!(message.starts_with("invalid type: sequence"), "{message}");
    }

    #[test]
    fn a_key_given_twice_is_refused_even_where_it_is_ignored() {
        let (path, message) = parse(r#"{"items": [], "x": {"a": 1, "a": 2}}"#).unwrap_err();
        assert_eq!(path, ["x", "a"]);
        assert!(message.starts_with("duplicate key"), "{message}");
    }

    #[test]
    fn one_point_zero_is_one() {
        let whole = |text: &str| {
            let mut deserializer = serde_json::Deserializer::from_str(text);
            Option::<u32>::deserialize(Strict::new(&mut deserializer, &Track::default())).ok()
        };
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
        assert!(parse(&good).is_ok());
        let bad = format!("{{\"items\": [], {}, \"k39\": 1}}", keys.join(","));
        assert_eq!(parse(&bad).unwrap_err().0, ["k39"]);
    }
}
