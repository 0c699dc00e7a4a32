//! What the directory and the books share where they are in PostgreSQL: reading an [`Address`] as libpq does, and TLS on the
//! way there. It opens no connection by itself.
//!
//! ```
//! let address = switchboard_postgres::Address::to("postgres://user:secret@host:5433/db?sslmode=require");
//! assert_eq!(address.resolve()?.name, "host:5433/db");
//! assert!(!format!("{address:?}").contains("secret"));
//! # Ok::<(), switchboard_postgres::AddressError>(())
//! ```

mod address;
mod tls;

pub use address::{Address, AddressError, Target};
pub use tls::{Connector, Stream, Towards};
