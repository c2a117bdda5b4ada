//! Values of arguments that identify something.

use std::net::{IpAddr, SocketAddr};

use tidegate_core::ids::{ConsumerNumber, ProcessId};

pub(super) fn consumer_number(text: &str) -> Result<ConsumerNumber, String> {
    let number = text.parse().ok().and_then(ConsumerNumber::new);
    number.ok_or_else(|| "expected a number from 1 on".to_owned())
}

pub(super) fn process_id(text: &str) -> Result<ProcessId, String> {
    ProcessId::parse(text).ok_or_else(|| "expected 32 hexadecimal digits".to_owned())
}

pub(super) fn pod_uid(text: &str) -> Result<ProcessId, String> {
    let family = ProcessId::parse(&text.replace('-', "")).map(ProcessId::family);
    family.ok_or_else(|| "expected a UUID".to_owned())
}

/// An address and a port. An IPv6 address may stand without brackets, as it is where Kubernetes puts it into a command line.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let bare = || {
        let (address, port) = text.rsplit_once(':')?;
        Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, port.parse().ok()?))
    };
    let address = text.parse().ok().or_else(bare);
    address.ok_or_else(|| "expected ADDRESS:PORT, such as 127.0.0.1:8080".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_pod_needs_no_brackets() {
        for (text, address) in [
            ("10.1.2.3:8080", "10.1.2.3:8080"),
            ("fd00::7:8080", "[fd00::7]:8080"),
            ("[fd00::7]:8080", "[fd00::7]:8080"),
        ] {
            assert_eq!(listen_address(text), Ok(address.parse().unwrap()));
        }
        assert!(listen_address("8080").is_err() && listen_address("localhost:80").is_err());
    }

    #[test]
    fn the_processes_of_a_pod_belong_to_it() {
        let pod = pod_uid("0f8fad5b-d9cb-469f-a165-70867728950e").unwrap();
        assert_eq!(pod.to_string(), "0f8fad5bd9cb469fa165708600000000");
        assert_eq!(ProcessId(7).in_family(pod).family(), pod);
        assert!(pod_uid("pod-1").is_err());
    }
}
