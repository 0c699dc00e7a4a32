//! Rows of the behaviour table that only the whole process can keep.

use anyhow::{Result, ensure};
use serde_json::Value;
use switchboard_testkit::{RawStation, Switchboard};

const BINARY: &str = env!("CARGO_BIN_EXE_switchboard");

/// What money hangs on is answered normally however broken its content is, by the whole process as it is delivered.
#[tokio::test]
async fn v10_a_message_about_money_is_never_refused_for_its_content() -> Result<()> {
    let server = Switchboard::start(BINARY, &[]).await?;
    let mut station = connect(&server, "OLD", "ocpp1.6").await?;
    station.ask(r#"[2,"0","BootNotification",{"chargePointVendor":"V","chargePointModel":"M"}]"#).await?;
    let answer = station.ask(r#"[2,"1","StartTransaction",{"connectorId":"x","idTag":7}]"#).await?;
    let transaction = answer[2]["transactionId"].as_i64().unwrap_or_default();
    ensure!(answer[0] == 3 && transaction > 0, "{answer}");
    for call in [
        r#"[2,"2","MeterValues",{"connectorId":1,"meterValue":"none"}]"#,
        r#"[2,"3","StopTransaction",{"transactionId":null,"meterStop":[]}]"#,
        r#"[2,"4","StartTransaction",{}]"#,
        r#"[2,"5","StopTransaction",{}]"#,
        r#"[2,"6","MeterValues",{}]"#,
    ] {
        result(call, &station.ask(call).await?)?;
    }
    let mut station = connect(&server, "NEW", "ocpp2.0.1").await?;
    let boot =
        r#"[2,"0","BootNotification",{"reason":"PowerUp","chargingStation":{"model":"M","vendorName":"V"}}]"#;
    result(boot, &station.ask(boot).await?)?;
    for call in [
        r#"[2,"1","TransactionEvent",{}]"#,
        r#"[2,"2","TransactionEvent",{"eventType":"Bogus","seqNo":"1","transactionInfo":{"transactionId":5}}]"#,
        r#"[2,"3","MeterValues",{"evseId":{},"meterValue":[[]]}]"#,
    ] {
        result(call, &station.ask(call).await?)?;
    }
    // What is about no money is refused as the specification says.
    let answer = station.ask(r#"[2,"9","NoSuchAction",{}]"#).await?;
    ensure!(answer[0] == 4 && answer[2] == "NotImplemented", "{answer}");
    Ok(())
}

fn result(call: &str, answer: &Value) -> Result<()> {
    ensure!(answer[0] == 3 && answer[2].is_object(), "{call}: {answer}");
    Ok(())
}

async fn connect(server: &Switchboard, station: &str, subprotocol: &str) -> Result<RawStation> {
    match RawStation::connect(&server.url(station), &[subprotocol]).await? {
        Ok(station) => Ok(station),
        Err(status) => anyhow::bail!("{station} was refused with {status}"),
    }
}
