//! The helper itself, on real servers.

use std::net::TcpStream;

use tidegate_testing::{PostgresVersion, RealPostgres};

#[test]
fn an_own_server_is_down_after_a_crash_and_gone_when_dropped() {
    let postgres = RealPostgres::start_own(PostgresVersion::V18, &["work_mem=1MB"]);
    let address = ("127.0.0.1", postgres.port());
    TcpStream::connect(address).expect("it is up");
    postgres.kill();
    TcpStream::connect(address).expect_err("it is down");
    postgres.restart();
    TcpStream::connect(address).expect("it is up again");
    drop(postgres);
    TcpStream::connect(address).expect_err("it is gone");
}

#[test]
fn tests_that_ask_for_the_same_server_share_it() {
    let one = RealPostgres::start(PostgresVersion::V18);
    let other = RealPostgres::start(PostgresVersion::V18);
    assert_eq!(one.port(), other.port());
    assert!(one.authority().is_file());
}
