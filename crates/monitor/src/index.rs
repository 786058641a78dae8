//! The page at the base path: links to all endpoints.

use std::fmt::Write;

use crate::response::Endpoint;

/// What the links say and where they lead.
const LINKS: [(&str, Endpoint); 13] = [
    ("General", Endpoint::Varz),
    ("JetStream", Endpoint::Jsz),
    ("Connections", Endpoint::Connz),
    ("Accounts", Endpoint::Accountz),
    ("Account Stats", Endpoint::Accstatz),
    ("Subscriptions", Endpoint::Subsz),
    ("Routes", Endpoint::Routez),
    ("LeafNodes", Endpoint::Leafz),
    ("Gateways", Endpoint::Gatewayz),
    ("Raft Groups", Endpoint::Raftz),
    ("Health Probe", Endpoint::Healthz),
    ("Expvar", Endpoint::Expvar),
    ("Metrics", Endpoint::Metrics),
];

/// The page. `base` is the base path, normalised.
pub fn page(server_name: &str, version: &str, base: &str) -> String {
    let (name, version, base) = (escape(server_name), escape(version), escape(base));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{name}</title>\n\
         <style>body {{ font-family: sans-serif; margin: 2rem }} a {{ display: block; margin: 0.4rem 0 }}</style>\n\
         </head>\n<body>\n<h1>{name}</h1>\n<p>nats-server {version}</p>\n"
    );
    for (title, endpoint) in LINKS {
        let path = endpoint.path();
        // Writing to a text cannot fail.
        let _ = writeln!(page, "<a href=\"{base}{path}\">{title}</a>");
    }
    page.push_str("<a href=\"https://docs.nats.io/running-a-nats-service/nats_admin/monitoring\">Help</a>\n");
    page.push_str("</body>\n</html>\n");
    page
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
