//! Bodies of the fuzz targets. Each is a plain function that panics when a promise is broken; `cargo fuzz run <target>`
//! feeds it from a corpus, and an ordinary test of the crate at hand feeds it from a generator.

pub mod decode;
pub mod frames;
pub mod inflate;
pub mod operations;
