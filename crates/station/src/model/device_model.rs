//! The device model of 2.x, as far as reports need it: settings, and the station with its EVSEs and connectors.

use super::configuration::{Configuration, Holds, Kind};
use serde_json::{Value, json};

/// How many variables one NotifyReport brings.
pub(crate) const ITEMS_IN_PART: usize = 50;

/// What is told about an EVSE and its one connector.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evse {
    pub(crate) id: u32,
    pub(crate) power_w: f64,
    pub(crate) available: bool,
    pub(crate) state: &'static str,
    pub(crate) faulted: bool,
}

/// What a report is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which<'a> {
    /// What can be changed.
    Settings,
    /// Everything.
    All,
    /// What is out of order or not available.
    Summary,
    /// What a GetReport asks for.
    Asked(&'a Value),
}

/// The variables that a report is about.
pub(crate) fn report(settings: &Configuration, evses: &[Evse], which: Which<'_>) -> Vec<Value> {
    let mut all: Vec<Value> = settings
        .variables()
        .map(|(row, value)| {
            let mut variable = json!({ "name": row.variable });
            if !row.instance.is_empty() {
                variable["instance"] = row.instance.into();
            }
            let (holds, mutability) = match row.kind {
                Kind::Fixed(holds) => (holds, "ReadOnly"),
                Kind::Free(holds) => (holds, "ReadWrite"),
                Kind::Password => (Holds::Text, "WriteOnly"),
            };
            let mut attribute = json!({ "mutability": mutability });
            if let Some(value) = value {
                attribute["value"] = value.into();
            }
            let mut characteristics = json!({ "supportsMonitoring": false, "dataType": match holds {
                Holds::Text => "string",
                Holds::Seconds | Holds::Number => "integer",
                Holds::Bool => "boolean",
                Holds::Measurands => "MemberList",
            }});
            match holds {
                Holds::Seconds => characteristics["unit"] = "s".into(),
                Holds::Measurands => {
                    characteristics["valuesList"] = super::configuration::MEASURANDS.join(",").into();
                }
                _ => {}
            }
            json!({ "component": { "name": row.component }, "variable": variable,
                "variableAttribute": [attribute], "variableCharacteristics": characteristics })
        })
        .collect();
    for evse in evses {
        let place = json!({ "id": evse.id });
        let plug = json!({ "id": evse.id, "connectorId": 1 });
        for (component, place, variable, value, kind) in [
            ("EVSE", &place, "Available", evse.available.to_string(), "boolean"),
            ("EVSE", &place, "AvailabilityState", evse.state.to_owned(), "OptionList"),
            ("EVSE", &place, "Power", format!("{:.0}", evse.power_w), "decimal"),
            ("EVSE", &place, "SupplyPhases", "3".to_owned(), "integer"),
            ("EVSE", &place, "Problem", evse.faulted.to_string(), "boolean"),
            ("Connector", &plug, "Available", evse.available.to_string(), "boolean"),
            ("Connector", &plug, "AvailabilityState", evse.state.to_owned(), "OptionList"),
            ("Connector", &plug, "ConnectorType", "cType2".to_owned(), "string"),
            ("Connector", &plug, "SupplyPhases", "3".to_owned(), "integer"),
        ] {
            let mut characteristics = json!({ "dataType": kind, "supportsMonitoring": false });
            if variable == "AvailabilityState" {
                characteristics["valuesList"] = "Available,Occupied,Reserved,Unavailable,Faulted".into();
            }
            if variable == "Power" {
                characteristics["unit"] = "W".into();
                characteristics["maxLimit"] = evse.power_w.into();
            }
            all.push(
                json!({ "component": { "name": component, "evse": place }, "variable": { "name": variable },
                "variableAttribute": [{ "value": value, "mutability": "ReadOnly" }],
                "variableCharacteristics": characteristics }),
            );
        }
    }
    let kept: Vec<Value> = match which {
        Which::All => all,
        Which::Settings => {
            all.into_iter().filter(|one| one["variableAttribute"][0]["mutability"] != "ReadOnly").collect()
        }
        Which::Summary => {
            let told = ["Available", "AvailabilityState", "Problem"];
            all.into_iter().filter(|one| told.iter().any(|name| one["variable"]["name"] == *name)).collect()
        }
        Which::Asked(request) => {
            let criteria = request["componentCriteria"].as_array().map(Vec::as_slice).unwrap_or_default();
            let meets = |component: &Value| {
                criteria.is_empty()
                    || criteria.iter().any(|criterion| {
                        let named = all.iter().find(|one| {
                            one["component"] == *component && one["variable"]["name"] == *criterion
                        });
                        match named {
                            Some(one) => one["variableAttribute"][0]["value"] == "true",
                            // 2.0.1 B08.FR.08: a component without the variable counts as if it were, save for problems.
                            None => *criterion != "Problem",
                        }
                    })
            };
            let asked = request["componentVariable"].as_array().map(Vec::as_slice).unwrap_or_default();
            let named = |one: &Value| {
                asked.is_empty()
                    || asked.iter().any(|ask| {
                        is_within(&ask["component"], &one["component"])
                            && is_within(&ask["variable"], &one["variable"])
                    })
            };
            all.iter().filter(|one| named(one) && meets(&one["component"])).cloned().collect()
        }
    };
    kept
}

/// Whether all that was asked for is so; what was not asked for may be anything.
fn is_within(asked: &Value, found: &Value) -> bool {
    match (asked, found) {
        (Value::Object(asked), Value::Object(found)) => asked
            .iter()
            .filter(|(name, _)| *name != "customData")
            .all(|(name, value)| found.get(name).is_some_and(|found| is_within(value, found))),
        (Value::Null, _) => true,
        (Value::String(asked), Value::String(found)) => asked.eq_ignore_ascii_case(found),
        _ => asked == found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn reports_hold_what_was_asked_for() {
        let settings = Configuration::new(&Config::new("ws://x", "A"));
        let evse = |id, faulted: bool| Evse {
            id,
            power_w: 22_000.0,
            available: !faulted,
            state: "Available",
            faulted,
        };
        let evses = [evse(1, false), evse(2, true)];
        let all = report(&settings, &evses, Which::All);
        assert!(all.len() > ITEMS_IN_PART, "{} variables need two parts", all.len());
        let settings_only = report(&settings, &evses, Which::Settings);
        assert!(!settings_only.is_empty() && settings_only.len() < all.len());
        let password =
            settings_only.iter().find(|one| one["variable"]["name"] == "BasicAuthPassword").unwrap();
        assert_eq!(password["variableAttribute"][0], json!({ "mutability": "WriteOnly" }));
        for (asked, count) in [
            (json!({ "componentVariable": [{ "component": { "name": "evse", "evse": { "id": 2 } } }] }), 5),
            (
                json!({ "componentVariable": [{ "component": { "name": "EVSE" }, "variable": { "name": "Power" } }] }),
                2,
            ),
            (json!({ "componentCriteria": ["Problem"] }), 5),
            (json!({ "componentVariable": [{ "component": { "name": "Nothing" } }] }), 0),
        ] {
            assert_eq!(report(&settings, &evses, Which::Asked(&asked)).len(), count, "{asked}");
        }
    }
}
