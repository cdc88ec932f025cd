//! Parameters that go into a statement and rows that come out.

use uuid::Uuid;

use crate::Error;

/// A parameter or a column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// SQL `NULL`.
    Null,
    /// `BOOLEAN`; SQLite stores 0 or 1.
    Bool(bool),
    /// `BIGINT`. Times are Unix milliseconds.
    Int(i64),
    /// `TEXT`.
    Text(String),
    /// `BYTEA`; `BLOB` on SQLite.
    Bytes(Vec<u8>),
    /// `UUID`; a 16-byte `BLOB` on SQLite.
    Uuid(Uuid),
}

impl Value {
    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let beyond = match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Uuid(_) => 0,
        };
        size_of::<Self>() + beyond
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_owned())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl From<Uuid> for Value {
    fn from(value: Uuid) -> Self {
        Self::Uuid(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// The parameters of a statement: `values![id, "name", None::<i64>]` is a `Vec<Value>`.
#[macro_export]
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        ::std::vec::Vec::<$crate::Value>::from([$($crate::Value::from($value)),*])
    };
}

/// One row: its columns by position.
#[derive(Debug, Clone, PartialEq)]
pub struct Row(pub(crate) Vec<Value>);

impl Row {
    /// Moves column `index` (from 0) out of the row; it is `NULL` afterwards.
    /// [`Error::Broken`] when there is no such column or it holds another type.
    pub fn take<T: FromValue>(&mut self, index: usize) -> Result<T, Error> {
        let column = self
            .0
            .get_mut(index)
            .ok_or_else(|| Error::Broken(format!("the row has no column {index}")))?;
        T::from_value(std::mem::replace(column, Value::Null)).ok_or_else(|| {
            let wanted = std::any::type_name::<T>();
            Error::Broken(format!("column {index} does not hold a {wanted}"))
        })
    }

    /// A copy of column `index` (from 0); `None` when there is no such column or it holds
    /// another type.
    pub fn get<T: FromValue>(&self, index: usize) -> Option<T> {
        self.0.get(index).cloned().and_then(T::from_value)
    }
}

/// A Rust type that a column can be read as.
pub trait FromValue: Sized {
    /// The value as this type, `None` when it is another type or `NULL`. Accepts what
    /// SQLite stores in its place: an integer for a `bool`, 16 bytes for a `Uuid`.
    fn from_value(value: Value) -> Option<Self>;
}

impl FromValue for bool {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(value),
            Value::Int(0) => Some(false),
            Value::Int(1) => Some(true),
            _ => None,
        }
    }
}

impl FromValue for i64 {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Int(value) => Some(value),
            _ => None,
        }
    }
}

impl FromValue for String {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Text(value) => Some(value),
            _ => None,
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Bytes(value) => Some(value),
            _ => None,
        }
    }
}

impl FromValue for Uuid {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Uuid(value) => Some(value),
            Value::Bytes(value) => Uuid::from_slice(&value).ok(),
            _ => None,
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

/// A record that can be read from a row.
pub trait FromRow: Sized {
    /// Takes the columns by position; [`Error::Broken`] when they do not fit.
    fn from_row(row: Row) -> Result<Self, Error>;
}

impl FromRow for Row {
    fn from_row(row: Row) -> Result<Self, Error> {
        Ok(row)
    }
}
