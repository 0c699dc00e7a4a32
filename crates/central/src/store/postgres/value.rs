//! Values on their way to PostgreSQL and back, as the five kinds that SQLite knows.

use super::Error;
use bytes::{BufMut, BytesMut};
use rusqlite::types::ValueRef;
use std::borrow::Cow;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

type Fault = Box<dyn std::error::Error + Sync + Send>;

/// A value for a parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(Cow<'a, [u8]>),
    Blob(Cow<'a, [u8]>),
}

impl Value<'_> {
    /// The same with bytes of its own.
    pub(crate) fn into_owned(self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(number) => Value::Integer(number),
            Self::Real(number) => Value::Real(number),
            Self::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Self::Blob(bytes) => Value::Blob(Cow::Owned(bytes.into_owned())),
        }
    }
}

impl<'a> From<ValueRef<'a>> for Value<'a> {
    fn from(value: ValueRef<'a>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(text) => Self::Text(Cow::Borrowed(text)),
            ValueRef::Blob(bytes) => Self::Blob(Cow::Borrowed(bytes)),
        }
    }
}

impl From<rusqlite::types::Value> for Value<'_> {
    fn from(value: rusqlite::types::Value) -> Self {
        use rusqlite::types::Value as Theirs;
        match value {
            Theirs::Null => Self::Null,
            Theirs::Integer(number) => Self::Integer(number),
            Theirs::Real(number) => Self::Real(number),
            Theirs::Text(text) => Self::Text(Cow::Owned(text.into_bytes())),
            Theirs::Blob(bytes) => Self::Blob(Cow::Owned(bytes)),
        }
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self, wanted: &Type, out: &mut BytesMut) -> Result<IsNull, Fault> {
        match (self, wanted) {
            (Self::Null, _) => return Ok(IsNull::Yes),
            (Self::Integer(number), &Type::BOOL) => out.put_u8(u8::from(*number != 0)),
            (Self::Integer(number), &Type::INT4) => out.put_i32(i32::try_from(*number)?),
            (Self::Integer(number), &Type::TEXT) => out.put_slice(number.to_string().as_bytes()),
            (Self::Integer(number), _) => out.put_i64(*number),
            (Self::Real(number), _) => out.put_f64(*number),
            // PostgreSQL takes every character but this one, and a station may say it: a message about money must be kept.
            (Self::Text(text), _) if text.contains(&0) => {
                out.put_slice(String::from_utf8_lossy(text).replace('\0', "\u{fffd}").as_bytes());
            }
            (Self::Text(bytes) | Self::Blob(bytes), _) => out.put_slice(bytes),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A column of a row.
pub(crate) fn column(row: &tokio_postgres::Row, place: usize) -> Result<ValueRef<'_>, Error> {
    Ok(row.try_get::<_, Column<'_>>(place)?.0)
}

struct Column<'a>(ValueRef<'a>);

impl<'a> FromSql<'a> for Column<'a> {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Fault> {
        Ok(Self(match *kind {
            Type::INT8 => ValueRef::Integer(i64::from_be_bytes(raw.try_into()?)),
            Type::INT4 => ValueRef::Integer(i32::from_be_bytes(raw.try_into()?).into()),
            Type::BOOL => ValueRef::Integer((raw != [0]).into()),
            Type::FLOAT8 => ValueRef::Real(f64::from_be_bytes(raw.try_into()?)),
            Type::BYTEA => ValueRef::Blob(raw),
            Type::TEXT | Type::VARCHAR | Type::NAME => ValueRef::Text(raw),
            _ => return Err(format!("a column of the type {kind} has no place in the books").into()),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Fault> {
        Ok(Self(ValueRef::Null))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
