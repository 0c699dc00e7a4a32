//! Bodies of the fuzz targets. Each is a plain function that panics when a promise is broken; `cargo fuzz run <target>`
//! feeds it from a corpus, an ordinary test of the crate at hand feeds it from a generator, and where there is no cargo-fuzz
//! the program `feed` does, with the compiler that builds the product.

pub mod decode;
pub mod feed;
pub mod frames;
pub mod inflate;
pub mod operations;
