//! Getting in: addresses, passwords, databases, encryption, and what the errors say.

use std::net::{Ipv4Addr, TcpListener};

use tidegate_runtime::ports::Class;
use tidegate_runtime::task::{Task, spawn_named};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{World, acquire, chain, open, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_permanent_and_is_not_repeated() {
    let world = World::new().await;
    world.run("DROP ROLE IF EXISTS loader_p; CREATE ROLE loader_p LOGIN PASSWORD 'other'").await;
    let url = world.url("").replace("admin@", "loader_p@");
    let error = open(&url).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent);
    let text = chain(&error);
    assert!(text.contains("refuses the login of user loader_p"), "{text}");
    assert!(!text.contains("admin-secret"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_wanted_and_not_given_is_permanent() {
    let world = World::new().await;
    let url = format!("postgres://admin@localhost:{}/{}", world.server.port(), world.database);
    let error = open(&url).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent);
    assert!(chain(&error).contains("refuses the login of user admin"), "{}", chain(&error));
}

/// Answers the wish for TLS with a byte and hangs up.
async fn answers(byte: u8) -> (u16, Task<()>) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answering = spawn_named("server", async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            client.read_exact(&mut [0; 8]).await.unwrap();
            client.write_all(&[byte]).await.unwrap();
        }
    });
    (port, answering)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_in_the_handshake_is_transient_and_one_without_encryption_is_not() {
    for (byte, class, words) in
        [(b'S', Class::Transient, "is it up"), (b'N', Class::Permanent, "look at sslmode")]
    {
        let (port, _answering) = answers(byte).await;
        let url = format!("postgres://u@127.0.0.1:{port}/d?sslmode=require");
        let error = open(&url).await.unwrap_err();
        assert_eq!(error.class(), class, "{}", chain(&error));
        assert!(chain(&error).contains(words), "{}", chain(&error));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_cannot_be_read_names_its_reference() {
    let world = World::new().await;
    let url = format!(
        "postgres://admin@localhost:{}/{}?passwordFile=/nowhere/secret",
        world.server.port(),
        world.database
    );
    let text = refusal(&url).await;
    assert!(text.contains("failed to read the secret file /nowhere/secret"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_database_is_permanent() {
    let world = World::new().await;
    let url = world.url("").replace(&world.database, "nowhere");
    let error = open(&url).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent);
    assert!(chain(&error).contains("database nowhere at localhost"), "{}", chain(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_transient() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // It takes connections and says nothing.
    let error = open(&format!("postgres://u@127.0.0.1:{port}/d?timeout=100ms")).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    assert!(chain(&error).contains("did not answer within 100ms"), "{}", chain(&error));
    drop(listener);
    let error = open(&format!("postgres://u@127.0.0.1:{port}/d")).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    assert!(chain(&error).contains("is it up"), "{}", chain(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_free_connections_is_transient() {
    let world = World::new().await;
    let admin = world.open("").await;
    acquire(&admin, 1).await.unwrap();
    world.run(&format!("ALTER DATABASE {} CONNECTION LIMIT 0", world.database)).await;
    world
        .run("DROP ROLE IF EXISTS loader_c; CREATE ROLE loader_c LOGIN PASSWORD 'admin-secret'")
        .await;
    let error = open(&world.url("").replace("admin@", "loader_c@")).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    assert!(chain(&error).contains("takes no more connections"), "{}", chain(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_is_encrypted_as_asked() {
    let world = World::new().await;
    let authority = world.server.authority();
    let sessions = |encrypted: bool| {
        format!(
            "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl = {encrypted} \
             AND datname = '{}' AND application_name = 'tidegate'",
            world.database
        )
    };
    for (options, is_encrypted) in [
        ("sslmode=disable".to_owned(), false),
        ("sslmode=prefer".to_owned(), true),
        ("sslmode=require".to_owned(), true),
        (format!("sslmode=verify-full&sslrootcert={}", authority.display()), true),
    ] {
        let sink = world.open(&options).await;
        acquire(&sink, 1).await.unwrap();
        // On a busy machine a session may have been given up before this one.
        assert!(world.count(&sessions(is_encrypted)).await > 0, "{options}");
        assert_eq!(world.count(&sessions(!is_encrypted)).await, 0, "{options}");
        drop(sink);
        world.run(&format!("SELECT pg_terminate_backend(pid, 10000) {}", world.sessions())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_or_host_is_refused() {
    let world = World::new().await;
    let verify = |authority: std::path::PathBuf| {
        format!("sslmode=verify-full&sslrootcert={}", authority.display())
    };
    let other = world.url(&verify(world.server.other_authority()));
    let elsewhere =
        world.url(&verify(world.server.authority())).replace("@localhost", "@127.0.0.1");
    for url in [other, elsewhere] {
        let error = open(&url).await.unwrap_err();
        assert_eq!(error.class(), Class::Permanent, "{}", chain(&error));
        assert!(chain(&error).contains("look at sslmode and sslrootcert"), "{}", chain(&error));
    }
}
