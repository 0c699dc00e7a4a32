//! Names of settings as people write them: keys of 1.6, and variables of components in 2.x.

use serde_json::{Value, json};
use std::fmt;

/// A name of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// 1.6: `HeartbeatInterval`.
    Key(String),
    /// 2.x: `Component/Variable`, in full `Component[instance].evse.connector/Variable[instance]#Attribute`.
    Variable(Variable),
}

/// The longest name, all parts together, in bytes. The specification has 50 characters for a part; what goes far beyond that
/// does not fit into an index of PostgreSQL.
pub(crate) const NAME_MAX: usize = 1000;

/// A variable of a component, and which of its attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Variable {
    component: String,
    component_instance: Option<String>,
    evse: Option<i64>,
    connector: Option<i64>,
    variable: String,
    variable_instance: Option<String>,
    attribute: Option<String>,
}

const EXPECTED: &str = "a name is a key of OCPP 1.6 such as HeartbeatInterval, or one of 2.x such as \
    OCPPCommCtrlr/HeartbeatInterval or EVSE.1/AvailabilityState, in full \
    Component[instance].evse.connector/Variable[instance]#Attribute";

const ATTRIBUTES: [&str; 4] = ["Actual", "Target", "MinSet", "MaxSet"];

impl Name {
    /// Reads a name.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.len() > NAME_MAX {
            return Err(format!("a name has at most {NAME_MAX} bytes"));
        }
        if text.chars().any(char::is_control) {
            return Err(EXPECTED.to_owned());
        }
        let Some((component, variable)) = text.split_once('/') else {
            return match text.chars().count() {
                1..=50 => Ok(Self::Key(text.to_owned())),
                _ => Err(EXPECTED.to_owned()),
            };
        };
        Self::of_2x(component, variable).map(Self::Variable).ok_or_else(|| EXPECTED.to_owned())
    }

    fn of_2x(component: &str, variable: &str) -> Option<Variable> {
        let (component, component_instance, place) = bracketed(component)?;
        let (variable, variable_instance, attribute) = bracketed(variable)?;
        let mut places =
            place.split('.').skip(1).map(|number| number.parse::<i64>().ok().filter(|n| *n >= 0));
        let evse = places.next().map_or(Some(None), |number| number.map(Some))?;
        let connector = places.next().map_or(Some(None), |number| number.map(Some))?;
        if places.next().is_some() || !(place.is_empty() || place.starts_with('.')) {
            return None;
        }
        let attribute = match attribute {
            "" => None,
            attribute => {
                let name = attribute.strip_prefix('#')?;
                let known = ATTRIBUTES.iter().find(|known| known.eq_ignore_ascii_case(name))?;
                // What is meant anyway is not said, so that one variable has one name.
                (*known != "Actual").then(|| (*known).to_owned())
            }
        };
        Some(Variable {
            component,
            component_instance,
            evse,
            connector,
            variable,
            variable_instance,
            attribute,
        })
    }
}

/// A name, its instance, and what follows.
fn bracketed(text: &str) -> Option<(String, Option<String>, &str)> {
    let end = text.find(['[', '.', '#']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let fits = |text: &str| (1..=50).contains(&text.chars().count());
    if !fits(name) {
        return None;
    }
    let Some(opened) = rest.strip_prefix('[') else { return Some((name.to_owned(), None, rest)) };
    let (instance, rest) = opened.split_once(']')?;
    fits(instance).then(|| (name.to_owned(), Some(instance.to_owned()), rest))
}

impl Variable {
    /// The members `component`, `variable` and `attributeType` of a request.
    pub(crate) fn members(&self) -> Value {
        let mut component = json!({ "name": self.component });
        if let Some(instance) = &self.component_instance {
            component["instance"] = json!(instance);
        }
        if let Some(evse) = self.evse {
            component["evse"] = json!({ "id": evse });
            if let Some(connector) = self.connector {
                component["evse"]["connectorId"] = json!(connector);
            }
        }
        let mut variable = json!({ "name": self.variable });
        if let Some(instance) = &self.variable_instance {
            variable["instance"] = json!(instance);
        }
        let mut members = json!({ "component": component, "variable": variable });
        if let Some(attribute) = &self.attribute {
            members["attributeType"] = json!(attribute);
        }
        members
    }

    /// The variable that these members of an answer name.
    pub(crate) fn of_members(members: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (component, variable) = (&members["component"], &members["variable"]);
        Some(Self {
            component: text(&component["name"])?,
            component_instance: text(&component["instance"]),
            evse: component["evse"]["id"].as_i64(),
            connector: component["evse"]["connectorId"].as_i64(),
            variable: text(&variable["name"])?,
            variable_instance: text(&variable["instance"]),
            attribute: text(&members["attributeType"]).filter(|attribute| attribute != "Actual"),
        })
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.component)?;
        if let Some(instance) = &self.component_instance {
            write!(formatter, "[{instance}]")?;
        }
        for number in [self.evse, self.connector].into_iter().flatten() {
            write!(formatter, ".{number}")?;
        }
        write!(formatter, "/{}", self.variable)?;
        if let Some(instance) = &self.variable_instance {
            write!(formatter, "[{instance}]")?;
        }
        match &self.attribute {
            Some(attribute) => write!(formatter, "#{attribute}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => formatter.write_str(key),
            Self::Variable(variable) => variable.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for name in [
            "HeartbeatInterval",
            "OCPPCommCtrlr/HeartbeatInterval",
            "EVSE.1/AvailabilityState",
            "Connector.1.2/Available",
            "DeviceDataCtrlr/ItemsPerMessage[GetReport]",
            "Display[left].2/State[x.y/z]#Target",
        ] {
            let read = Name::parse(name).unwrap();
            assert_eq!(read.to_string(), name);
            if let Name::Variable(variable) = read {
                assert_eq!(Variable::of_members(&variable.members()), Some(variable), "{name}");
            }
        }
        assert_eq!(Name::parse("A/B#actual").unwrap().to_string(), "A/B");
    }

    #[test]
    fn what_is_no_name_is_told_what_one_is() {
        let long = "x".repeat(51);
        for name in ["", "/B", "A/", "A/B#Other", "A.x/B", "A.1.2.3/B", "A[/B", "A[]/B", "a\nb", &long] {
            assert!(Name::parse(name).is_err_and(|error| error.contains("OCPPCommCtrlr")), "{name}");
        }
    }
}
