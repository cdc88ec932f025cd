//! Conversion between [`Value`] and PostgreSQL's types.

use std::error::Error as StdError;

use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, private::BytesMut};
use uuid::Uuid;

use crate::Value;

type Failure = Box<dyn StdError + Sync + Send>;

/// Whether [`Value`] supports this type.
pub(super) fn is_supported(ty: &Type) -> bool {
    matches!(
        *ty,
        Type::BOOL
            | Type::INT2
            | Type::INT4
            | Type::INT8
            | Type::TEXT
            | Type::VARCHAR
            | Type::JSONB
            | Type::BYTEA
            | Type::UUID
    )
}

/// Whether this value can be encoded as this type.
pub(super) fn fits(value: &Value, ty: &Type) -> bool {
    match value {
        Value::Null => is_supported(ty),
        Value::Bool(_) => *ty == Type::BOOL,
        Value::Int(number) => match *ty {
            Type::INT2 => i16::try_from(*number).is_ok(),
            Type::INT4 => i32::try_from(*number).is_ok(),
            _ => *ty == Type::INT8,
        },
        Value::Text(_) => matches!(*ty, Type::TEXT | Type::VARCHAR | Type::JSONB),
        Value::Bytes(_) => *ty == Type::BYTEA,
        Value::Uuid(_) => *ty == Type::UUID,
    }
}

/// The version number, which is the first byte of binary `JSONB`.
const JSONB_VERSION: u8 = 1;

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        if !fits(self, ty) {
            return Err(format!("the value does not fit {ty}").into());
        }
        match self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Bool(value) => value.to_sql(ty, out)?,
            Self::Int(value) => match *ty {
                Type::INT2 => i16::try_from(*value)?.to_sql(ty, out)?,
                Type::INT4 => i32::try_from(*value)?.to_sql(ty, out)?,
                _ => value.to_sql(ty, out)?,
            },
            Self::Text(value) => {
                if *ty == Type::JSONB {
                    out.extend_from_slice(&[JSONB_VERSION]);
                }
                value.to_sql(ty, out)?
            }
            Self::Bytes(value) => value.to_sql(ty, out)?,
            Self::Uuid(value) => value.to_sql(ty, out)?,
        };
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        // Whether a type fits depends on the value as well; `to_sql` checks both.
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        Ok(match *ty {
            Type::BOOL => Self::Bool(bool::from_sql(ty, raw)?),
            Type::INT2 => Self::Int(i16::from_sql(ty, raw)?.into()),
            Type::INT4 => Self::Int(i32::from_sql(ty, raw)?.into()),
            Type::INT8 => Self::Int(i64::from_sql(ty, raw)?),
            Type::BYTEA => Self::Bytes(raw.to_vec()),
            Type::UUID => Self::Uuid(Uuid::from_sql(ty, raw)?),
            Type::JSONB => {
                Self::Text(std::str::from_utf8(raw.get(1..).unwrap_or_default())?.to_owned())
            }
            _ => Self::Text(String::from_sql(ty, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failure> {
        Ok(Self::Null)
    }

    fn accepts(ty: &Type) -> bool {
        is_supported(ty)
    }
}
