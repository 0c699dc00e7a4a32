//! What all processes of an installation have in common.

use super::Harness;

/// Also across reopening, and when many say it at once.
pub async fn the_first_to_say_it_decides_for_all(harness: &dyn Harness) {
    let directory = harness.open().await;
    let said: Vec<String> = (0..8).map(|number| format!("value {number}")).collect();
    let agreed =
        futures_util::future::join_all(said.iter().map(|value| directory.agree("agreement.a", value))).await;
    let first = agreed[0].as_ref().unwrap().clone();
    assert!(said.contains(&first), "{first}");
    assert!(agreed.iter().all(|one| *one.as_ref().unwrap() == first), "{agreed:?}");
    assert_eq!(directory.agree("agreement.b", "another").await.unwrap(), "another");
    directory.close().await.unwrap();
    let directory = harness.open().await;
    assert_eq!(directory.agree("agreement.a", "later").await.unwrap(), first);
    directory.close().await.unwrap();
}
