//! What the rows C01–C11, F15, F16 and L06 promise.

use super::*;

#[test]
fn an_idle_connection_is_small() {
    println!("{}", size_of::<Connection>());
    assert!(size_of::<Connection>() <= 480, "{}", size_of::<Connection>());
}
