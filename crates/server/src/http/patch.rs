//! A field of a change: left alone, taken away, or set.

use serde::{Deserialize, Deserializer};

/// Tells a field that is absent from one that is null.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// Not in the body.
    #[default]
    Absent,
    /// `null`.
    Null,
    /// A value.
    Set(T),
}

impl<T> Patch<T> {
    /// What to write, if anything: `None` is no change, `Some(None)` takes the value away.
    pub fn change(&self) -> Option<Option<&T>> {
        match self {
            Self::Absent => None,
            Self::Null => Some(None),
            Self::Set(value) => Some(Some(value)),
        }
    }

    /// The value, if one was sent.
    pub fn value(&self) -> Option<&T> {
        self.change().flatten()
    }

    /// For a replacement, in which absent means taken away.
    #[must_use]
    pub fn or_null(self) -> Self {
        match self {
            Self::Absent => Self::Null,
            other => other,
        }
    }
}

impl Patch<String> {
    /// A garde rule: no more than this many characters.
    pub fn at_most(max: usize) -> impl Fn(&Self, &()) -> garde::Result {
        move |patch, ()| match patch.value() {
            Some(text) if text.chars().count() > max => {
                Err(garde::Error::new(format!("length is greater than {max}")))
            }
            _ => Ok(()),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Option::<T>::deserialize(deserializer)?;
        Ok(value.map_or(Self::Null, Self::Set))
    }
}
