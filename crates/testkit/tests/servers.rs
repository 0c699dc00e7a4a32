//! The launchers give servers that can be frozen, killed and started again.

use anyhow::Result;
use std::io::{Read, Write};
use std::net::TcpStream;
use switchboard_testkit::servers::{Mosquitto, Nats, Postgres, RabbitMq, Server};

async fn it_lives_again(server: &mut Server) -> Result<()> {
    let address = server.address();
    let pid = server.pid();
    server.freeze()?;
    server.thaw()?;
    server.kill()?;
    assert!(TcpStream::connect(address).is_err(), "it is gone");
    server.start().await?;
    assert_ne!(server.pid(), pid);
    drop(TcpStream::connect(address)?);
    Ok(())
}

#[tokio::test]
async fn nats_lives_again() -> Result<()> {
    let Some(mut nats) = Nats::start("nats_lives_again").await? else { return Ok(()) };
    it_lives_again(&mut nats).await?;
    let mut info = [0; 5];
    TcpStream::connect(nats.address())?.read_exact(&mut info)?;
    assert_eq!(&info, b"INFO ");
    Ok(())
}

#[tokio::test]
async fn rabbitmq_lives_again() -> Result<()> {
    let Some(mut rabbitmq) = RabbitMq::start("rabbitmq_lives_again").await? else { return Ok(()) };
    it_lives_again(&mut rabbitmq).await?;
    let mut stream = TcpStream::connect(rabbitmq.address())?;
    stream.write_all(b"AMQP\0\0\x09\x01")?;
    let mut start = [0; 1];
    stream.read_exact(&mut start)?;
    assert_eq!(start, [1], "a method frame");
    Ok(())
}

#[tokio::test]
async fn mosquitto_lives_again() -> Result<()> {
    let Some(mut mosquitto) = Mosquitto::start("mosquitto_lives_again").await? else { return Ok(()) };
    it_lives_again(&mut mosquitto).await
}

#[tokio::test]
async fn postgres_keeps_what_it_committed_when_it_is_killed() -> Result<()> {
    let Some(mut postgres) = Postgres::start("postgres_keeps_what_it_committed").await? else {
        return Ok(());
    };
    let url = postgres.database()?;
    let name = url.rsplit('/').next().unwrap_or_default().to_owned();
    postgres.psql(&name, "CREATE TABLE kept AS SELECT 7 AS number")?;
    it_lives_again(&mut postgres).await?;
    assert_eq!(postgres.psql(&name, "SELECT number FROM kept")?, "7");
    Ok(())
}
