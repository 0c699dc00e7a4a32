//! Enumerations: known values, and a place for those that the specification does not list.

use std::fmt;

/// A value that the enumeration does not list, kept as it came.
#[derive(Clone, PartialEq, Eq, Hash)]
// Two boxes, so that the enumeration around it stays at two words: it is made only when a station is wrong.
pub struct Unlisted(Box<Box<str>>);

impl Unlisted {
    /// The text on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Unlisted {
    fn from(text: &str) -> Self {
        Self(Box::new(text.into()))
    }
}

impl fmt::Debug for Unlisted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self.0, formatter)
    }
}

/// What every enumeration can do.
pub(crate) trait Enumeration: Sized {
    /// The value with this text, if the specification lists it.
    fn listed(text: &str) -> Option<Self>;
    /// A value that it does not list.
    fn unlisted(text: &str) -> Self;
}

/// Makes an enumeration from its values and their texts.
macro_rules! enumeration {
    ($(#[$meta:meta])* $name:ident { $($variant:ident $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = concat!("`", $text, "`.")] $variant,)+
            /// A value that the specification does not list: read in lenient mode only, never written.
            Unlisted($crate::Unlisted),
        }

        impl $name {
            /// All values that the specification lists, as on the wire.
            pub const LISTED: &[&str] = &[$($text),+];

            /// The text on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Unlisted(text) => text.as_str(),
                }
            }
        }

        impl $crate::enumeration::Enumeration for $name {
            fn listed(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$variant),)+
                    _ => None,
                }
            }

            fn unlisted(text: &str) -> Self {
                Self::Unlisted(text.into())
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                $crate::enumeration::from_text(text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl $crate::write::Write for $name {
            fn write(&self, writer: &mut $crate::write::Writer<'_>) {
                writer.text(self.as_str());
            }
        }
    };
}
pub(crate) use enumeration;

pub(crate) fn from_text<E: Enumeration>(text: &str) -> E {
    E::listed(text).unwrap_or_else(|| E::unlisted(text))
}
