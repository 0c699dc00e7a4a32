//! Properties of frames and of whole conversations. The checks are those of the fuzz targets; here a generator feeds
//! them, there a corpus.
#![expect(clippy::disallowed_methods, reason = "a clock that is moved by hand begins somewhere")]
#![expect(
    unreachable_pub,
    clippy::expect_used,
    clippy::panic,
    reason = "the fuzz targets' bodies live elsewhere, too"
)]

#[path = "../../../fuzz/src/frames.rs"]
mod frames;
#[path = "../../../fuzz/src/operations.rs"]
mod operations;

use operations::{Operation, run};
use proptest::prelude::*;

/// Frames of all kinds, to be damaged.
const SEEDS: &[&str] = &[
    r#"[2,"19223201","BootNotification",{"chargePointVendor":"V","chargePointModel":"M"}]"#,
    r#"[3,"19223201",{"status":"Accepted","currentTime":"2026-01-01T00:00:00Z","interval":300}]"#,
    r#"[4,"162376037","NotSupported","not here",{"a":[1,{"b":null}]}]"#,
    r#" [ 2 , 42 , "MeterValues" , { "v" : [ { "a" : "\"]}\\" } , -1.5e+3 , true , false , null ] } ] "#,
    r#"[5,"a","FormatViolation","",{}]"#,
    r#"[6,"a","NotifyPeriodicEventStream",{"id":1,"data":[{"t":1.5,"v":"1"}]}]"#,
    r#"[2,"\u00e9\ud83d\ude00 36 characters, or nearly so ....","Heart\u0062eat",null]"#,
    r#"[4,"a","Code"]"#,
    "[]",
];

/// What damages a frame most.
const BYTES: &[u8] = b"[]{}\",:\\0123456789-.eEtrufalsn \n\t\0x";

fn damaged_frame() -> impl Strategy<Value = String> {
    let damage = (any::<prop::sample::Index>(), prop::sample::select(BYTES), 0..4_u8);
    (prop::sample::select(SEEDS), prop::collection::vec(damage, 0..4)).prop_map(|(seed, damages)| {
        let mut bytes = seed.as_bytes().to_vec();
        for (at, byte, how) in damages {
            let at = at.index(bytes.len() + 1);
            match how {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => bytes[at] = byte,
                2 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_frames_are_judged_as_an_independent_parser_judges_them(text in damaged_frame()) {
        frames::check(&text);
    }

    #[test]
    fn any_text_is_judged_as_an_independent_parser_judges_it(text in "[\\[\\]{}\",:\\\\a-e0-9.é-]{0,40}") {
        frames::check(&text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_call_ends_once_and_order_and_bounds_are_kept(
        version in any::<u8>(),
        operations in prop::collection::vec(any::<[u8; 3]>().prop_map(Operation::decode), 0..200),
    ) {
        run(version, &operations);
    }
}

#[test]
fn undamaged_frames_are_judged_as_an_independent_parser_judges_them() {
    for seed in SEEDS {
        frames::check(seed);
    }
}
