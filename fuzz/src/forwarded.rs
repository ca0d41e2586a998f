//! Who a client is and by which scheme it came, from what stands in `X-Forwarded-For` or `Forwarded`.

use std::net::IpAddr;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate::cache::Scheme;
use tidegate::config::{ClientAddressField, Network, Networks};
use tidegate::edge::policy::{ForwardedClient, forwarded_client};

/// Each line is a field line that a client sends; our proxies append to the last.
pub fn check(data: &[u8]) {
    let block: Network = "10.0.0.0/8".parse().expect("a block");
    let trusted: Networks = [block].into_iter().collect();
    let proxy = IpAddr::from([10, 0, 0, 1]);
    let client = IpAddr::from([192, 0, 2, 7]);
    let x_forwarded_for = HeaderName::from_static("x-forwarded-for");
    for (field, name, chain) in [
        (
            ClientAddressField::XForwardedFor,
            x_forwarded_for,
            "192.0.2.7, 10.0.0.2",
        ),
        (
            ClientAddressField::Forwarded,
            FORWARDED,
            "for=192.0.2.7;proto=https, for=\"10.0.0.2:80\";proto=http",
        ),
    ] {
        let mut fields = HeaderMap::new();
        for line in data.split(|byte| *byte == b'\n') {
            if let Ok(value) = HeaderValue::from_bytes(line) {
                fields.append(name.clone(), value);
            }
        }
        // Whatever it is, it is read in one way and without harm.
        let forged = forwarded_client(&fields, field, &trusted, proxy);
        assert_eq!(forged, forwarded_client(&fields, field, &trusted, proxy));
        fields.append(name, HeaderValue::from_static(chain));
        let proto = HeaderValue::from_static("https");
        fields.insert(HeaderName::from_static("x-forwarded-proto"), proto);
        let expected = ForwardedClient {
            address: client,
            scheme: Some(Scheme::Https),
        };
        assert_eq!(forwarded_client(&fields, field, &trusted, proxy), expected);
    }
}
