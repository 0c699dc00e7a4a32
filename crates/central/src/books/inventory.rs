//! The device model of a station of 2.x, as its reports tell it.

use super::variable::NAME_MAX;
use super::{AlarmKind, Ledger};
use crate::store::{OptionalExtension, StoreError};
use crate::views::Attribute;
use serde::Deserialize;
use serde_json::value::RawValue;

/// More variables of one station are not kept.
pub(crate) const VARIABLES_MAX: i64 = 20_000;

/// `base` of a report that holds all there is, so that what is not in it is gone.
pub(crate) const FULL: &str = "full";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    #[serde(borrow)]
    report_data: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Datum<'a> {
    component: Component,
    variable: Named,
    variable_attribute: Option<Vec<Attribute>>,
    #[serde(borrow)]
    variable_characteristics: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Component {
    #[serde(flatten)]
    name: Named,
    evse: Option<Evse>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    instance: Option<String>,
}

impl Named {
    fn len(&self) -> usize {
        self.name.len() + self.instance.as_ref().map_or(0, String::len)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Evse {
    id: i64,
    connector_id: Option<i64>,
}

impl Ledger<'_> {
    /// Brings the device model up to date with a complete report. One of everything replaces it, any other one only adds
    /// to it: a summary says nothing of what it leaves out.
    pub(super) fn device_model(
        &self,
        request: i64,
        base: Option<&str>,
        parts: &[String],
    ) -> Result<(), StoreError> {
        for part in parts {
            let Ok(report) = serde_json::from_str::<Report<'_>>(part) else { continue };
            for datum in report.report_data.unwrap_or_default() {
                // One that is no variable, or whose name is longer than any, does not cost the others; the message as a
                // whole was judged before.
                if let Ok(datum) = serde_json::from_str::<Datum<'_>>(datum.get())
                    && datum.component.name.len() + datum.variable.len() <= NAME_MAX
                {
                    self.device_variable(request, &datum)?;
                }
            }
        }
        if base == Some(FULL) {
            self.db
                .prepare_cached("DELETE FROM device_variable WHERE station = ?1 AND request <> ?2")?
                .execute((self.station, request))?;
        }
        self.device_model_bounded()
    }

    fn device_variable(&self, request: i64, datum: &Datum<'_>) -> Result<(), StoreError> {
        let (evse, connector) = match &datum.component.evse {
            Some(evse) => (evse.id, evse.connector_id.unwrap_or(0)),
            None => (0, 0),
        };
        let key = (
            self.station,
            &datum.component.name.name,
            datum.component.name.instance.as_deref().unwrap_or(""),
            evse,
            connector,
            &datum.variable.name,
            datum.variable.instance.as_deref().unwrap_or(""),
        );
        let known: Option<String> = self
            .db
            .prepare_cached(
                "SELECT attributes FROM device_variable
                 WHERE station = ?1 AND component = ?2 AND component_instance = ?3 AND evse = ?4 AND connector = ?5
                   AND variable = ?6 AND variable_instance = ?7",
            )?
            .query_row(key, |row| row.get(0))
            .optional()?;
        let mut attributes: Vec<Attribute> =
            known.and_then(|known| serde_json::from_str(&known).ok()).unwrap_or_default();
        for attribute in datum.variable_attribute.iter().flatten() {
            attributes.retain(|known| known.kind() != attribute.kind());
            attributes.push(attribute.clone());
        }
        attributes.sort_by_key(|attribute| ATTRIBUTES.iter().position(|kind| *kind == attribute.kind()));
        let attributes =
            serde_json::to_string(&attributes).map_err(|error| StoreError::Invalid(error.to_string()))?;
        self.db
            .prepare_cached(
                "INSERT INTO device_variable (station, component, component_instance, evse, connector, variable,
                                              variable_instance, attributes, characteristics, request, updated_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                 ON CONFLICT (station, component, component_instance, evse, connector, variable, variable_instance)
                 DO UPDATE
                 SET attributes = excluded.attributes, request = excluded.request, updated_ms = excluded.updated_ms,
                     characteristics = coalesce(excluded.characteristics, device_variable.characteristics)",
            )?
            .execute((
                key.0,
                key.1,
                key.2,
                key.3,
                key.4,
                key.5,
                key.6,
                attributes,
                datum.variable_characteristics.map(RawValue::get),
                request,
                self.now_ms,
            ))?;
        Ok(())
    }

    /// What is beyond the bound goes, the oldest first.
    fn device_model_bounded(&self) -> Result<(), StoreError> {
        let count: i64 = self
            .db
            .prepare_cached("SELECT count(*) FROM device_variable WHERE station = ?1")?
            .query_row([self.station], |row| row.get(0))?;
        if count <= VARIABLES_MAX {
            return Ok(());
        }
        self.db
            .prepare_cached(
                "DELETE FROM device_variable WHERE (station, component, component_instance, evse, connector, variable,
                                                    variable_instance) IN
                   (SELECT station, component, component_instance, evse, connector, variable, variable_instance
                    FROM device_variable WHERE station = ?1 ORDER BY updated_ms LIMIT ?2)",
            )?
            .execute((self.station, count - VARIABLES_MAX))?;
        let detail =
            format!("the station reports more than {VARIABLES_MAX} variables; the others are not kept");
        self.alarm(AlarmKind::ReportTooLarge, "device model", &detail)
    }
}

const ATTRIBUTES: [&str; 4] = ["Actual", "Target", "MinSet", "MaxSet"];
