//! How pods start, and where.

use std::collections::BTreeSet;
use std::net::TcpStream;

use super::{SERVE, image, kube, pod, pod_with};

/// Two pods on two nodes, each ready once it answers on its own address.
const SERVERS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  replicas: 2
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      terminationGracePeriodSeconds: 5
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {matchLabels: {app: server}}
      containers:
      - name: main
        image: IMAGE
        env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
        ports: [{name: front, containerPort: 8080}]
        readinessProbe: {tcpSocket: {port: front}, periodSeconds: 1}
";

const SERVER: &str = r#"exec python3 -c '
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server = socket.create_server((os.environ["POD_IP"], 8080))
while True:
    server.accept()[0].close()'"#;

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn a_deployment_of_two_becomes_ready_on_two_nodes_with_addresses_on_loopback() {
    let namespace = kube().namespace("spread");
    let image = image(&namespace, "1", SERVER);
    namespace.apply(&SERVERS.replace("IMAGE", &image));
    namespace.wait_for("deployment/server", "condition=Available");
    namespace.wait("deployment/server", "{.status.readyReplicas}", "2");
    let nodes = namespace.get("pods", "{.items[*].spec.nodeName}");
    assert_eq!(nodes.split(' ').collect::<BTreeSet<_>>().len(), 2, "{nodes}");
    let addresses = namespace.get("pods", "{.items[*].status.podIP}");
    let addresses: BTreeSet<&str> = addresses.split(' ').collect();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    for address in addresses {
        assert!(address.starts_with("127."), "{address}");
        TcpStream::connect((address, 8080)).expect("the pod answers");
    }
}

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn a_slowed_start_waits_and_other_pods_do_not() {
    let namespace = kube().namespace("slow");
    let image = image(&namespace, "1", SERVE);
    let slow = kube().fault(&format!("start {}/slow* 3600s", namespace.name()));
    namespace.apply(&pod("slow", &image));
    namespace.apply(&pod("quick", &image));
    namespace.wait_for("pod/quick", "condition=Ready");
    let state = "{.status.containerStatuses[0].state.waiting.reason}";
    namespace.wait("pod/slow", state, "ContainerCreating");
    assert_eq!(namespace.get("pod/slow", "{.status.phase}"), "Pending");
    drop(slow);
    namespace.wait_for("pod/slow", "condition=Ready");
}

/// Lists the pods of its own namespace, as programs in a cluster find the API server.
const ASK: &str = r#"exec python3 -c '
import os, ssl, urllib.error, urllib.request
account = "/var/run/secrets/kubernetes.io/serviceaccount/"
token, namespace = open(account + "token").read(), open(account + "namespace").read()
host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
url = f"https://{host}:{port}/api/v1/namespaces/{namespace}/pods"
request = urllib.request.Request(url, headers={"Authorization": "Bearer " + token})
try:
    urllib.request.urlopen(request, context=ssl.create_default_context(cafile=account + "ca.crt"))
except urllib.error.HTTPError as error:
    print(error.read().decode())'"#;

#[test]
#[ignore = "starts a Kubernetes: cargo xtask kube test"]
fn a_pod_finds_the_api_server_and_is_known_to_it_by_its_account() {
    let namespace = kube().namespace("account");
    let image = image(&namespace, "1", ASK);
    namespace.apply(&pod_with("asks", &image, "Never"));
    namespace.wait("pod/asks", "{.status.phase}", "Succeeded");
    let answer = namespace.logs("asks");
    // It has no rights.
    let user = format!("system:serviceaccount:{}:default", namespace.name());
    assert!(answer.contains("Forbidden") && answer.contains(&user), "{answer}");
}
