//! What a graph from a stranger may not reach.

use nvisy_core::ErrorKind;
use nvisy_core::connection::Connection;
use wiremock::MockServer;

use crate::service::{config, context, refused};

#[tokio::test]
async fn addresses_that_are_not_public_are_refused_however_they_are_written() {
    let hosts = [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0",
        "10.0.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fe80::1]",
        "[fd00::1]",
        "100.100.100.200",
    ];
    for host in hosts {
        let error =
            config(&format!("http://{host}:8080")).connect(&context().untrusted(true)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission, "{host}: {error}");
        assert!(error.message().contains("`base_url`"), "{error}");
    }
}

#[tokio::test]
async fn a_name_that_leads_to_this_machine_is_refused() {
    let server = MockServer::start().await;
    let url = server.uri().replace("127.0.0.1", "localhost");
    let client = config(&url).connect(&context().untrusted(true)).await.unwrap();
    let error = refused(&client, &["a"]).await;
    assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
    assert!(error.message().contains("`base_url`: localhost leads to"), "{error}");
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_trusted_graph_reaches_this_machine() {
    let server = MockServer::start().await;
    let client = config(&server.uri()).connect(&context()).await.unwrap();
    assert_eq!(refused(&client, &["a"]).await.kind(), ErrorKind::NotFound);
}
