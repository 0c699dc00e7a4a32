//! All messages of all versions: what may say who a driver is, or is a secret, is not shown, wherever it stands.
//!
//! The other way round: every member that holds free text is taken for personal unless it stands in the list below, so
//! that a member that a new edition brings has to be looked at by somebody.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use std::{fs, path::PathBuf};
use switchboard_testkit::tools;
use switchboard_trace::Redactor;

const SENTINEL: &str = "SENTINEL77";

/// Members whose text says nothing of a person and opens no door.
const HARMLESS: &[&str] = &[
    // What the station is, and what it runs.
    "chargeBoxSerialNumber",
    "chargePointModel",
    "chargePointSerialNumber",
    "chargePointVendor",
    "connectorType",
    "evInverterHwVersion",
    "evInverterManufacturer",
    "evInverterModel",
    "evInverterSerialNumber",
    "evInverterSwVersion",
    "firmwareVersion",
    "iccid",
    "identity",
    "imsi",
    "instance",
    "meterSerialNumber",
    "meterType",
    "model",
    "name",
    "serialNumber",
    "vendorName",
    "vendorId",
    "preferredNetwork",
    "group",
    "server",
    "apn",
    // Names of things, and of kinds of things.
    "chargingLimitSource",
    "controlId",
    "currency",
    "customTrigger",
    "id",
    "key",
    "language",
    "language1",
    "language2",
    "messageId",
    "paymentBrand",
    "paymentRecognition",
    "priceAlgorithm",
    "reasonCode",
    "serviceName",
    "supersededIds",
    "tariffId",
    "tariffIds",
    "taxRuleName",
    "techCode",
    "transactionId",
    "type",
    "unit",
    "unknownKey",
    "valuesList",
    "vendorErrorCode",
    "signingMethod",
    "encodingMethod",
    "iso15118SchemaVersion",
    "country",
    // Texts that a machine or an operator writes, to be read by others.
    "additionalInfo",
    "content",
    "extraInfo",
    "failureReason",
    "info",
    "overstayRuleDescription",
    "priceScheduleDescription",
    "salesTariffDescription",
    "statusInfo",
    "techInfo",
    "vendorInfo",
    "city",
    // Public parts of certificates and signatures.
    "certificateChain",
    "checksum",
    "csr",
    "digestValue",
    "issuerKeyHash",
    "issuerNameHash",
    "ocspResult",
    "priceScheduleSignature",
    "publicKey",
    "signature",
    "signingCertificate",
    // Places: URLs are looked into by themselves.
    "fileName",
    "filename",
    "location",
    "ocppCsmsUrl",
    "remoteLocation",
    "responderURL",
    "urls",
    // Times and numbers as texts, and what only a key beside it makes personal.
    "endTimeOfDay",
    "startTimeOfDay",
    "validFromDate",
    "validToDate",
    "v",
    "value",
    "attributeValue",
    "actualValue",
];

/// Members in which everything counts, also what is harmless elsewhere.
const AROUND: &[&str] = &[
    "company",
    "vatCompany",
    "customerCertificate",
    "iso15118CertificateHashData",
    "personalMessage",
    "updatedPersonalMessage",
];

/// What is harmless also there.
const PLAIN_WITHIN: &[&str] = &["vendorId", "language", "type"];

/// Members that are URLs.
const URLS: &[&str] = &["location", "remoteLocation", "ocppCsmsUrl", "responderURL", "urls"];

/// An instance of a schema with everything that it allows, and the sentinel wherever it should not be seen.
struct Planter<'a> {
    root: &'a Value,
    planted: usize,
}

impl Planter<'_> {
    #[expect(clippy::panic, reason = "a schema of a new kind fails the test")]
    fn make(
        &mut self,
        node: &Value,
        name: &str,
        around: bool,
        beside: bool,
        seen: &[String],
    ) -> Option<Value> {
        if let Some(reference) = node["$ref"].as_str() {
            let key = reference.rsplit('/').next()?.to_owned();
            if seen.contains(&key) {
                return None;
            }
            let node = &self.root["definitions"][&key];
            return self.make(node, name, around, beside, &[seen, std::slice::from_ref(&key)].concat());
        }
        if let Some(values) = node["enum"].as_array() {
            return values.first().cloned();
        }
        if let Some(members) = node["properties"].as_object() {
            let around = around || AROUND.contains(&name);
            // A key that makes the value beside it a secret.
            let is_beside = beside
                || (members.contains_key("key") && members.contains_key("value"))
                || members.contains_key("variable");
            let mut object = Map::new();
            for (member, node) in members {
                let value = match (member.as_str(), is_beside) {
                    ("key", true) => Some(json!("AuthorizationKey")),
                    ("variable", true) => Some(json!({ "name": "BasicAuthPassword" })),
                    ("component", true) => Some(json!({ "name": "SecurityCtrlr" })),
                    _ => self.make(node, member, around, is_beside, seen),
                };
                object.extend(value.map(|value| (member.clone(), value)));
            }
            if name == "customData" {
                object.insert("licence".to_owned(), json!({ "plate": [self.plant()] }));
            }
            return Some(Value::Object(object));
        }
        Some(match node["type"].as_str() {
            Some("array") => json!([self.make(&node["items"], name, around, beside, seen)?]),
            Some("string") if node["format"] == "date-time" => json!("2026-11-23T05:00:00Z"),
            Some("integer" | "number") => json!(1),
            Some("boolean") => json!(true),
            Some("object") => json!({}),
            Some("string") | None => {
                let values = ["value", "attributeValue", "actualValue"];
                if URLS.contains(&name) {
                    json!(format!("ftp://{}:{SENTINEL}@host/path?{SENTINEL}", self.plant()))
                } else if (around && !PLAIN_WITHIN.contains(&name))
                    || !HARMLESS.contains(&name)
                    || (beside && values.contains(&name))
                {
                    json!(self.plant())
                } else {
                    json!("harmless")
                }
            }
            Some(other) => panic!("a type that no schema had: {other}"),
        })
    }

    fn plant(&mut self) -> String {
        self.planted += 1;
        SENTINEL.to_owned()
    }
}

#[test]
fn nothing_personal_and_no_secret_of_any_message_is_shown() -> Result<()> {
    let Some(python) = tools::python("nothing_personal_and_no_secret_of_any_message_is_shown")? else {
        return Ok(());
    };
    let library = python.parent().and_then(|bin| bin.parent()).context("no folder")?.join("lib");
    let redactor = Redactor::random();
    let (mut messages, mut planted) = (0, 0);
    let mut faults = Vec::new();
    for version in ["v16", "v201", "v21"] {
        let packages = fs::read_dir(&library)?.next().context("no library")??.path();
        let folder = packages.join("site-packages/ocpp").join(version).join("schemas");
        let mut files: Vec<PathBuf> =
            fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file)?;
            let root: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))?;
            let mut planter = Planter { root: &root, planted: 0 };
            let payload = planter.make(&root, "", false, false, &[]).context("no instance")?;
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let action =
                name.strip_suffix("Request").or_else(|| name.strip_suffix("Response")).unwrap_or(&name);
            for text in [payload.to_string(), json!([2, "id", action, payload]).to_string()] {
                let shown = redactor.redact(&text, Some(action), false)?;
                if shown.contains(SENTINEL) {
                    faults.push(format!("{version} {name}: {shown}"));
                }
                serde_json::from_str::<Value>(&shown)?;
            }
            messages += 1;
            planted += planter.planted;
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    ensure!(messages >= 387 && planted > 400, "{messages} messages, {planted} planted");
    Ok(())
}
