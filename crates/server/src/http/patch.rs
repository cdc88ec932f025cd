//! A field of a PATCH body: absent, null, or set.

use serde::{Deserialize, Deserializer};

/// A field that distinguishes absent from null.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// The field is not in the body.
    #[default]
    Absent,
    /// The field is `null`.
    Null,
    /// The field has a value.
    Set(T),
}

impl<T> Patch<T> {
    /// The change to write: `None` leaves the value unchanged, `Some(None)` removes it.
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

    /// Turns an absent field into null, for PUT requests.
    #[must_use]
    pub fn or_null(self) -> Self {
        match self {
            Self::Absent => Self::Null,
            other => other,
        }
    }
}

impl Patch<String> {
    /// Returns a garde rule that allows at most `max` characters.
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
