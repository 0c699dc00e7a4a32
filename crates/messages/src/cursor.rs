//! A walk through a JSON text that gives out slices of it, for whoever needs a few of its values as they were written.

use crate::json::NotJson;
use crate::scan::Scanner;
use std::borrow::Cow;

/// A position before a value of a JSON text. Each method takes one value and goes on behind it.
///
/// ```
/// use switchboard_messages::Cursor;
///
/// let mut samples = Vec::new();
/// let is_object = Cursor::new(r#"{"connectorId":1,"values":[ 1.10, "2" ]}"#).members(|name, value| {
///     if name != "values" {
///         return value.skip();
///     }
///     value.items(|item| {
///         samples.push(item.value()?);
///         Ok(())
///     })?;
///     Ok(())
/// })?;
/// assert!(is_object);
/// assert_eq!(samples, ["1.10", "\"2\""]);
/// # Ok::<(), switchboard_messages::NotJson>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cursor<'a>(Scanner<'a>);

impl<'a> Cursor<'a> {
    /// Before the value that the text is.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self(Scanner::new(text))
    }

    /// Gives each member of an object to `take`, which takes its value; whether it is an object. Another value is passed
    /// over.
    ///
    /// # Errors
    /// When the text is no JSON, and what `take` reports.
    pub fn members(
        &mut self,
        mut take: impl FnMut(&str, &mut Self) -> Result<(), NotJson>,
    ) -> Result<bool, NotJson> {
        if self.0.peek() != b'{' {
            return self.skip().map(|()| false);
        }
        self.0.open(b'{')?;
        while let Some(name) = self.0.key()? {
            take(&name.text(), self)?;
        }
        Ok(true)
    }

    /// Gives each item of an array to `take`, which takes it; whether it is an array. Another value is passed over.
    ///
    /// # Errors
    /// When the text is no JSON, and what `take` reports.
    pub fn items(&mut self, mut take: impl FnMut(&mut Self) -> Result<(), NotJson>) -> Result<bool, NotJson> {
        if self.0.peek() != b'[' {
            return self.skip().map(|()| false);
        }
        self.0.open(b'[')?;
        while self.0.item()? {
            take(self)?;
        }
        Ok(true)
    }

    /// The text of whatever `take` takes, beside what that gives.
    ///
    /// # Errors
    /// What `take` reports.
    pub fn spanned<T>(
        &mut self,
        take: impl FnOnce(&mut Self) -> Result<T, NotJson>,
    ) -> Result<(&'a str, T), NotJson> {
        self.0.peek();
        let before = self.0.clone();
        let taken = take(self)?;
        Ok((before.up_to(&self.0), taken))
    }

    /// The value as it stands there.
    ///
    /// # Errors
    /// When it is no JSON.
    pub fn value(&mut self) -> Result<&'a str, NotJson> {
        Ok(self.0.value()?)
    }

    /// As [`value`](Self::value), where the text is known to be JSON: of an object or array only brackets and strings are
    /// followed, which takes a tenth of the time.
    ///
    /// # Errors
    /// When it has no end.
    pub fn pass(&mut self) -> Result<&'a str, NotJson> {
        Ok(self.0.pass()?)
    }

    /// The string that is meant; none if the value is none.
    ///
    /// # Errors
    /// When it is no JSON.
    pub fn string(&mut self) -> Result<Option<Cow<'a, str>>, NotJson> {
        if self.0.peek() == b'"' {
            return Ok(Some(self.0.string()?.text()));
        }
        self.skip().map(|()| None)
    }

    /// Passes over the value.
    ///
    /// # Errors
    /// When it is no JSON.
    pub fn skip(&mut self) -> Result<(), NotJson> {
        self.0.value()?;
        Ok(())
    }

    /// Whether nothing but white space follows.
    pub fn at_end(&mut self) -> bool {
        self.0.at_end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Takes everything there is, by the methods that fit.
    fn walk(cursor: &mut Cursor<'_>, depth: u32) -> Result<(), NotJson> {
        if depth.is_multiple_of(2) {
            cursor.members(|_, value| walk(value, depth + 1))?;
        } else {
            cursor.items(|item| walk(item, depth + 1))?;
        }
        Ok(())
    }

    #[test]
    fn what_is_no_json_is_told() {
        for text in ["", "{", "{\"a\"}", "[1,]", "{\"a\":1,}", "{\"a\":[}", "nul"] {
            assert!(walk(&mut Cursor::new(text), 0).is_err(), "{text}");
        }
    }

    #[test]
    fn a_span_is_what_was_taken() {
        let mut cursor = Cursor::new(r#"{ "a" : [ 1 , {"b":2} ] , "c":"d\u0065" }"#);
        let mut found = Vec::new();
        let is_object = cursor
            .members(|name, value| {
                let (text, is_array) = value.spanned(|value| value.items(Cursor::skip))?;
                found.push((name.to_owned(), text.to_owned(), is_array));
                Ok(())
            })
            .unwrap();
        assert!(is_object && cursor.at_end());
        assert_eq!(
            found,
            [
                ("a".to_owned(), r#"[ 1 , {"b":2} ]"#.to_owned(), true),
                ("c".to_owned(), r#""d\u0065""#.to_owned(), false)
            ]
        );
        assert_eq!(Cursor::new(r#""d\u0065""#).string().unwrap().unwrap(), "de");
        assert_eq!(Cursor::new("7").string().unwrap(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_json_is_passed_as_it_is_taken(
            pieces in prop::collection::vec(r#"\{"[a-z{}\[\]]{0,20}":\[1,"\\\\"\]\}|[1-9][0-9]{0,2}|"[a-z\[]{0,90}""#, 0..12),
        ) {
            let text = format!(r#"{{"a": [ {} ] }}"#, pieces.join(" , "));
            let items = |passing: bool| {
                let mut items = Vec::new();
                let taken = Cursor::new(&text).members(|_, list| {
                    list.items(|item| {
                        items.push(if passing { item.pass()? } else { item.value()? });
                        Ok(())
                    })?;
                    Ok(())
                });
                (taken, items)
            };
            prop_assert_eq!(items(true), items(false), "{}", text);
            prop_assert_eq!(items(true).1.len(), pieces.len());
        }

        #[test]
        fn no_text_makes_it_panic(text in r#"[{}\[\]",:0-9a-z\\ ]{0,60}"#) {
            let mut cursor = Cursor::new(&text);
            let walked = walk(&mut cursor, 0).is_ok() && cursor.at_end();
            prop_assert_eq!(walked, serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok(), "{}", text);
        }
    }
}
