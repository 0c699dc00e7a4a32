//! A generator that feeds the bodies where there is no libFuzzer: it has no eyes for which branch was taken, so it knows
//! what messages look like, and damages them.

use crate::operations::Operation;
use std::time::{Duration, Instant};
use switchboard_deflate::Pool;

/// What it damages.
const SEEDS: &[&str] = &[
    r#"[2,"19223201","BootNotification",{"chargePointVendor":"V","chargePointModel":"M"}]"#,
    r#"[4,"162376037","NotSupported","not here",{"a":[1,{"b":null}]}]"#,
    r#"[6,"a","NotifyPeriodicEventStream",{"id":1,"data":[{"t":1.5,"v":"1"}]}]"#,
    r#" [ 3 , 42 , { "v" : [ { "a" : "\"]}\\" } , -1.5e+3 , true , false , null ] } ] "#,
    r#"{"connectorId":1,"idTag":"A1","meterStart":0,"timestamp":"2026-11-23T10:00:00.123+01:00"}"#,
    r#"{"connectorId":1,"transactionId":7,"meterValue":[{"timestamp":"2026-11-23T10:00:00Z","sampledValue":[{"value":"21.4","measurand":"Energy.Active.Import.Register","unit":"Wh","context":"Sample.Periodic"}]}]}"#,
    r#"{"eventType":"Started","timestamp":"2026-11-23T10:00:00Z","triggerReason":"Authorized","seqNo":0,"transactionInfo":{"transactionId":"t"},"idToken":{"idToken":"A1","type":"ISO14443"},"meterValue":[{"timestamp":"2026-11-23T10:00:00Z","sampledValue":[{"value":1e308,"unitOfMeasure":{"unit":"Wh","multiplier":-3}}]}]}"#,
    r#"{"status":"Accepted","currentTime":"2026-01-01T00:00:00Z","interval":300,"customData":{"vendorId":"x","y":[{}]}}"#,
    r#"{"chargingProfileId":1,"stackLevel":0,"chargingProfilePurpose":"TxProfile","chargingProfileKind":"Absolute","chargingSchedule":{"chargingRateUnit":"A","chargingSchedulePeriod":[{"startPeriod":0,"limit":0.30000000000000004}]}}"#,
];
const PIECES: &[&str] = &[
    "null", "true", "0", "-0", "1e999", "-1", "2147483648", "0.1", "\"\"", "{}", "[]", ",", ":", "\"", "\\",
    "\\u0000", "\\ud83d", "\u{e9}", "\u{1f600}", "Accepted", "timestamp", "customData", "status",
];

/// Numbers without a pattern that a seed repeats: xorshift64*.
#[derive(Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// The series of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Any of so many.
    pub fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from(high).unwrap_or(0) % count.max(1)
    }
}

/// Bytes to try: a message, damaged a few times, or no message at all.
pub fn bytes(numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = match numbers.below(8) {
        0 => (0..numbers.below(200)).map(|_| byte(numbers)).collect(),
        _ => SEEDS[numbers.below(SEEDS.len())].as_bytes().to_vec(),
    };
    for _ in 0..numbers.below(6) {
        let at = numbers.below(bytes.len() + 1);
        match numbers.below(7) {
            0 => bytes.insert(at, byte(numbers)),
            1 => bytes.truncate(at),
            2 if at < bytes.len() => bytes[at] = byte(numbers),
            3 if at < bytes.len() => drop(bytes.drain(at..(at + 1 + numbers.below(9)).min(bytes.len()))),
            4 => {
                let part: Vec<u8> = bytes[at..(at + numbers.below(60)).min(bytes.len())].to_vec();
                let to = numbers.below(bytes.len() + 1);
                drop(bytes.splice(to..to, part));
            }
            _ => drop(bytes.splice(at..at, PIECES[numbers.below(PIECES.len())].bytes())),
        }
    }
    bytes
}

fn byte(numbers: &mut Numbers) -> u8 {
    const LIKELY: &[u8] = b"[]{}\",:\\0123456789-+.eE tfn\0";
    match numbers.below(3) {
        0 => u8::try_from(numbers.below(256)).unwrap_or(0),
        _ => LIKELY[numbers.below(LIKELY.len())],
    }
}

/// Feeds a body of this name with inputs of the seeds from this one on, for a while: how many there were. `told` gets each
/// seed before its input is tried, so that one that fails can be tried alone. None if there is no such body.
pub fn run(target: &str, first: u64, time: Duration, told: impl Fn(u64)) -> Option<u64> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let body: &dyn Fn(&mut Numbers) = match target {
        "decode" => &|numbers| {
            let which = numbers.below(usize::from(u16::MAX));
            crate::decode::check(which, &text(bytes(numbers)));
        },
        "frames" => &|numbers| crate::frames::check(&text(bytes(numbers))),
        "inflate" => &|numbers| crate::inflate::check(&compressed(numbers)),
        "operations" => &|numbers| {
            let count = numbers.below(300);
            let any = |numbers: &mut Numbers| u8::try_from(numbers.below(256)).unwrap_or(0);
            let operations: Vec<_> =
                (0..count).map(|_| Operation::decode([(); 3].map(|()| any(numbers)))).collect();
            crate::operations::run(any(numbers), &operations);
        },
        _ => return None,
    };
    let begun = Instant::now();
    let mut count = 0;
    loop {
        told(first.wrapping_add(count));
        body(&mut Numbers::new(first.wrapping_add(count)));
        count += 1;
        // A look at the clock costs as much as a small input.
        if count % 64 == 1 && begun.elapsed() >= time {
            return Some(count);
        }
    }
}

/// What a deflater made of something, damaged a few times.
fn compressed(numbers: &mut Numbers) -> Vec<u8> {
    let plain = bytes(numbers).repeat(1 + numbers.below(40));
    let mut payload = Pool::new(1).deflate(&plain, 15).map_or(plain, Vec::from);
    for _ in 0..numbers.below(4) {
        let at = numbers.below(payload.len());
        let byte = byte(numbers);
        if let Some(place) = payload.get_mut(at) {
            *place = byte;
        }
    }
    payload
}
