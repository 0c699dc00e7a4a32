//! The schemas as tables: generated from the official ones, read by the check.

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Node {
    /// An object. An open one may have members that are not in the table.
    Object { members: &'static [Member], open: bool },
    /// An array.
    Array { item: &'static Self, min: usize, max: usize },
    /// A text of at most so many characters.
    Text { max: usize },
    /// A URI of at most so many characters.
    Uri { max: usize },
    /// A date and time.
    DateTime,
    /// One of these texts.
    Enumeration(&'static [&'static str]),
    /// A whole number.
    Integer { min: i64, max: i64 },
    /// A number, with at most so many decimal places.
    Number { min: Option<i64>, max: Option<i64>, decimals: Option<u8> },
    /// True or false.
    Boolean,
    /// Anything.
    Any,
}

/// A member of an object.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) node: &'static Node,
    pub(crate) required: bool,
}

/// The schema of a message.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) node: &'static Node,
    /// The typed reader refuses whatever the schema forbids. Not so where two messages share a type and differ in
    /// small things: there the check has the only say.
    pub(crate) exact: bool,
}

/// No bound.
pub(crate) const MANY: usize = usize::MAX;

/// A member that must be there.
pub(crate) const fn required(name: &'static str, node: &'static Node) -> Member {
    Member { name, node, required: true }
}

/// A member that may be there.
pub(crate) const fn optional(name: &'static str, node: &'static Node) -> Member {
    Member { name, node, required: false }
}
