//! Meter readings. One row per `meterValue` element, with its samples as the station wrote them.
//!
//! A row per sample would cost a 12-sample message twelve inserts; samples are only ever read together. How those of one
//! transaction are found is told in [`reading_key`](super::reading_key).

use super::{AlarmKind, Ledger, Stamp};
use crate::decimal::Decimal;
use crate::store::StoreError;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// One `meterValue` element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) at: Stamp,
    /// A JSON array of `sampledValue` objects, values with all their digits.
    pub(crate) samples: String,
    /// The import register over all phases in Wh, if it is among the samples.
    pub(crate) energy: Option<Decimal>,
    /// A sample of that register is not a number.
    pub(crate) unusable: bool,
}

/// What tells one sample of a reading from another (`OCPP-J.md` 11.2); absent means the default of the schema.
#[derive(Default, PartialEq, Eq, Deserialize)]
struct SampleKey<'a> {
    #[serde(borrow, default)]
    measurand: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    phase: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    location: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    context: Option<Cow<'a, str>>,
}

impl SampleKey<'_> {
    /// With the schema's defaults in place of what is absent: a repeat may write them out.
    fn with_defaults(mut self) -> Self {
        self.measurand.get_or_insert(Cow::Borrowed("Energy.Active.Import.Register"));
        self.location.get_or_insert(Cow::Borrowed("Outlet"));
        self.context.get_or_insert(Cow::Borrowed("Sample.Periodic"));
        self
    }
}

impl Ledger<'_> {
    /// Keeps readings. Samples that are there already are replaced, so that repeats and overlaps change nothing.
    pub(crate) fn readings(&self, charge: i64, evse: i64, readings: &[Reading]) -> Result<(), StoreError> {
        for reading in readings {
            self.reading(charge, evse, reading)?;
        }
        Ok(())
    }

    fn reading(&self, charge: i64, evse: i64, reading: &Reading) -> Result<(), StoreError> {
        if reading.unusable {
            self.alarm(
                AlarmKind::NotANumber,
                &charge.to_string(),
                "a sample of the energy register is not a number; it is kept as it came",
            )?;
        }
        // Over a network the database finds out by itself whether it is new, without a question of its own.
        let may_be_new = self.db.is_shared() || self.is_new(charge, evse, reading.at.us)?;
        if may_be_new && self.keep(charge, evse, reading)? {
            return Ok(());
        }
        self.merge(charge, evse, reading)
    }

    /// Keeps a reading, unless the database has a key that says that it is there; whether it did.
    fn keep(&self, charge: i64, evse: i64, reading: &Reading) -> Result<bool, StoreError> {
        let new = self
            .db
            .prepare_cached(
                "INSERT INTO reading (station, charge, at_us, evse, at, energy_wh, samples)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
            )?
            .execute((
                self.station,
                charge,
                reading.at.us,
                evse,
                &reading.at.text,
                reading.energy.map(|energy| energy.to_string()),
                &reading.samples,
            ))?;
        if new > 0 {
            self.db.learn().note_new_reading((self.station, charge, evse), reading.at.us);
        }
        Ok(new > 0)
    }

    /// The rare case: there is a reading of that moment. One message may mix old samples and new ones.
    fn merge(&self, charge: i64, evse: i64, reading: &Reading) -> Result<(), StoreError> {
        let (id, samples): (i64, String) = self
            .db
            .prepare_cached(
                "SELECT id, samples FROM known_reading
                 WHERE station = ?1 AND charge = ?2 AND at_us = ?3 AND evse = ?4",
            )?
            .query_row((self.station, charge, reading.at.us, evse), |row| Ok((row.get(0)?, row.get(1)?)))?;
        if samples == reading.samples {
            return Ok(());
        }
        let Some(merged) = merged(&samples, &reading.samples) else {
            return Err(StoreError::Invalid("samples in the books cannot be read".to_owned()));
        };
        let energy = reading.energy.map(|energy| energy.to_string());
        self.db
            .prepare_cached(
                "UPDATE reading SET samples = ?2, energy_wh = coalesce(?3, energy_wh) WHERE id = ?1",
            )?
            .execute((id, merged, energy))?;
        Ok(())
    }
}

/// Both lists of samples as one; of two of the same key the newer.
fn merged(kept: &str, newer: &str) -> Option<String> {
    let mut samples: Vec<&RawValue> = serde_json::from_str(kept).ok()?;
    for sample in serde_json::from_str::<Vec<&RawValue>>(newer).ok()? {
        let key = key(sample);
        let is_same = |other: &&mut &RawValue| match &key {
            Some(key) => self::key(other).is_some_and(|other| other == *key),
            // It is no sample; it is there as it came.
            None => other.get() == sample.get(),
        };
        match samples.iter_mut().find(is_same) {
            Some(other) => *other = sample,
            None => samples.push(sample),
        }
    }
    serde_json::to_string(&samples).ok()
}

/// None: it is no sample.
fn key(sample: &RawValue) -> Option<SampleKey<'_>> {
    // OCPP 1.5 wrote a text where nothing but the value is to be said.
    let key = if sample.get().starts_with('"') {
        Some(SampleKey::default())
    } else {
        serde_json::from_str::<SampleKey<'_>>(sample.get()).ok()
    };
    key.map(SampleKey::with_defaults)
}

#[cfg(test)]
mod tests {
    use super::merged;

    #[test]
    fn samples_of_one_moment_are_merged_by_what_they_measure() {
        let kept = r#"[{"value":"95.0","unit":"Wh"},{"value":"246.6","measurand":"Voltage","phase":"L1"}]"#;
        let newer =
            r#"[{"value":"247.0","measurand":"Voltage","phase":"L2"},{"value":"95.00","location":"Outlet"}]"#;
        assert_eq!(
            merged(kept, newer).unwrap(),
            r#"[{"value":"95.00","location":"Outlet"},{"value":"246.6","measurand":"Voltage","phase":"L1"},{"value":"247.0","measurand":"Voltage","phase":"L2"}]"#
        );
        assert_eq!(merged(kept, kept).unwrap(), kept);
    }

    #[test]
    fn what_is_no_sample_stands_beside_the_others() {
        let kept = r#"["95.0",7,{"measurand":1}]"#;
        assert_eq!(merged(kept, kept).unwrap(), kept);
        let newer = r#"["96.0",8,{"measurand":1},{"value":"7","measurand":"Voltage"}]"#;
        let both = r#"["96.0",7,{"measurand":1},8,{"value":"7","measurand":"Voltage"}]"#;
        assert_eq!(merged(kept, newer).unwrap(), both);
    }
}
