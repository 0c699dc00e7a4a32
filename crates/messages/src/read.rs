//! Reading typed values in one pass.
//!
//! The reader tells only *that* something is wrong, not what: [`Stop`] makes the schema check say it. So the usual
//! case, a message without fault, pays for no bookkeeping.

use crate::decimal::{Decimal, fits_step, integer, within};
use crate::enumeration::Enumeration;
use crate::json::{CustomData, Json};
use crate::scan::{NotJson, Scanner};
use crate::timestamp::{Form, Timestamp};
use crate::uri::is_uri;
use std::borrow::Cow;

/// Something is wrong with the text, or needs the forgiving reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop;

impl From<NotJson> for Stop {
    fn from(NotJson: NotJson) -> Self {
        Self
    }
}

pub(crate) type Read<T = ()> = Result<T, Stop>;

/// A type that can be read.
pub(crate) trait Value: Sized {
    fn read(reader: &mut Reader<'_>) -> Read<Self>;
}

/// Reads values from a text.
pub(crate) struct Reader<'a> {
    scan: Scanner<'a>,
    /// The schema check has already looked at the text and forgiven what can be forgiven.
    lenient: bool,
}

/// Reads a whole text as one value.
pub(crate) fn read<T: Value>(text: &str, lenient: bool) -> Read<T> {
    let mut reader = Reader { scan: Scanner::new(text), lenient };
    let value = T::read(&mut reader)?;
    if reader.scan.at_end() { Ok(value) } else { Err(Stop) }
}

impl<'a> Reader<'a> {
    /// Begins an object.
    pub(crate) fn object_begins(&mut self) -> Read {
        Ok(self.scan.open(b'{')?)
    }

    /// The name of the next member; `None` at the end of the object.
    pub(crate) fn key(&mut self) -> Read<Option<Cow<'a, str>>> {
        Ok(self.scan.key()?.map(|key| key.text()))
    }

    /// Passes over a member that the schema does not know.
    pub(crate) fn unknown(&mut self) -> Read {
        if !self.lenient {
            return Err(Stop);
        }
        self.scan.value()?;
        Ok(())
    }

    /// Whether a value is to be read into the member: not if it is a forgiven `null`. A member may come twice only
    /// when it is forgiven; the last one wins.
    fn wants<T>(&mut self, slot: &mut Option<T>) -> Read<bool> {
        if slot.is_some() {
            if !self.lenient {
                return Err(Stop);
            }
            *slot = None;
        }
        if self.scan.peek() != b'n' {
            return Ok(true);
        }
        if !self.lenient {
            return Err(Stop);
        }
        self.scan.literal()?;
        Ok(false)
    }

    /// A member of any kind.
    pub(crate) fn member<T>(&mut self, slot: &mut Option<T>, read: fn(&mut Self) -> Read<T>) -> Read {
        if self.wants(slot)? {
            *slot = Some(read(self)?);
        }
        Ok(())
    }

    /// A member with an array.
    pub(crate) fn array<T>(
        &mut self,
        slot: &mut Option<Vec<T>>,
        min: usize,
        max: usize,
        read: fn(&mut Self) -> Read<T>,
    ) -> Read {
        if !self.wants(slot)? {
            return Ok(());
        }
        self.scan.open(b'[')?;
        let mut items = Vec::new();
        while self.scan.item()? {
            if items.len() == max && !self.lenient {
                return Err(Stop);
            }
            items.push(read(self)?);
        }
        if items.len() < min && !self.lenient {
            return Err(Stop);
        }
        *slot = Some(items);
        Ok(())
    }

    /// A member with an enumeration value. Where an empty text means that the member is absent, as some stations
    /// write it, `absent_if_empty` is set.
    pub(crate) fn enumeration<E: Enumeration>(
        &mut self,
        slot: &mut Option<E>,
        absent_if_empty: bool,
    ) -> Read {
        if self.wants(slot)? {
            let text = self.scan.string()?.text();
            *slot = E::listed(&text);
            if slot.is_none() {
                if !self.lenient {
                    return Err(Stop);
                }
                if !(absent_if_empty && text.is_empty()) {
                    *slot = Some(E::unlisted(&text));
                }
            }
        }
        Ok(())
    }

    /// An enumeration value as an item of an array.
    pub(crate) fn enumeration_item<E: Enumeration>(&mut self) -> Read<E> {
        let text = self.scan.string()?.text();
        match E::listed(&text) {
            Some(value) => Ok(value),
            None if self.lenient => Ok(E::unlisted(&text)),
            None => Err(Stop),
        }
    }

    /// A member with a text of at most so many characters.
    pub(crate) fn text(&mut self, slot: &mut Option<String>, max: usize) -> Read {
        if self.wants(slot)? {
            *slot = Some(self.text_item(max)?);
        }
        Ok(())
    }

    /// A text as an item of an array.
    pub(crate) fn text_item(&mut self, max: usize) -> Read<String> {
        let text = self.scan.string()?.text();
        if !self.lenient && is_longer(&text, max) {
            return Err(Stop);
        }
        Ok(text.into_owned())
    }

    /// A member with a URI.
    pub(crate) fn uri(&mut self, slot: &mut Option<String>, max: usize) -> Read {
        self.text(slot, max)?;
        if !self.lenient && slot.as_deref().is_some_and(|text| !is_uri(text)) {
            return Err(Stop);
        }
        Ok(())
    }

    /// A member with a point in time.
    pub(crate) fn timestamp(&mut self, slot: &mut Option<Timestamp>) -> Read {
        if self.wants(slot)? {
            let text = self.scan.string()?.text();
            *slot = match Timestamp::parse(&text) {
                Ok(timestamp) if self.lenient || timestamp.form() == Form::Rfc3339 => Some(timestamp),
                // A required timestamp that is empty is missing then, and stops as such.
                Err(_) if self.lenient && text.is_empty() => None,
                _ => return Err(Stop),
            };
        }
        Ok(())
    }

    /// A member with an integer within bounds.
    pub(crate) fn integer(&mut self, slot: &mut Option<i64>, min: i64, max: i64) -> Read {
        if self.wants(slot)? {
            *slot = Some(self.integer_item(min, max)?);
        }
        Ok(())
    }

    /// An integer as an item of an array.
    pub(crate) fn integer_item(&mut self, min: i64, max: i64) -> Read<i64> {
        let number = integer(self.scan.number()?).map_err(|_| Stop)?;
        if self.lenient || (min..=max).contains(&number) { Ok(number) } else { Err(Stop) }
    }

    /// A member with a number.
    pub(crate) fn number(&mut self, slot: &mut Option<Decimal>) -> Read {
        self.number_within(slot, None, None, None)
    }

    /// A member with a number within bounds and with at most so many decimal places.
    pub(crate) fn number_within(
        &mut self,
        slot: &mut Option<Decimal>,
        min: Option<i64>,
        max: Option<i64>,
        decimals: Option<u8>,
    ) -> Read {
        if self.wants(slot)? {
            let lexeme = self.scan.number()?;
            let fits = within(lexeme, min, max) && decimals.is_none_or(|places| fits_step(lexeme, places));
            if !fits && !self.lenient {
                return Err(Stop);
            }
            *slot = Some(Decimal::from_lexeme(lexeme));
        }
        Ok(())
    }

    /// A member that is true or false.
    pub(crate) fn boolean(&mut self, slot: &mut Option<bool>) -> Read {
        if self.wants(slot)? {
            *slot = match self.scan.literal()? {
                "true" => Some(true),
                "false" => Some(false),
                _ => return Err(Stop),
            };
        }
        Ok(())
    }

    /// A member that may be anything; `null` is a value there.
    pub(crate) fn any(&mut self, slot: &mut Option<Json>) -> Read {
        if slot.is_some() && !self.lenient {
            return Err(Stop);
        }
        *slot = Some(Json::from_token(self.scan.value()?));
        Ok(())
    }
}

impl<T: Value> Value for Box<T> {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        T::read(reader).map(Self::new)
    }
}

impl Value for CustomData {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let mut vendor_id = None;
        let mut data = Self::new("");
        reader.object_begins()?;
        while let Some(key) = reader.scan.key()? {
            if key.text() == "vendorId" {
                reader.text(&mut vendor_id, 255)?;
            } else {
                let value = reader.scan.value()?;
                data.push_quoted(key.raw(), value);
            }
        }
        data.vendor_id = vendor_id.ok_or(Stop)?;
        Ok(data)
    }
}

/// Whether a text has more than so many characters. Bytes are counted first, since most texts are short.
pub(crate) fn is_longer(text: &str, max: usize) -> bool {
    text.len() > max && text.chars().count() > max
}
