//! The regexes and formats of the workloads, as all contenders get them.

pub const HEALTH: &str = "GET /health|kube-probe";
/// The same filter, written as people write it who think that a regex must match the whole line.
pub const AWKWARD: &str = "^(.*GET /health.*|.*kube-probe.*)$";

pub const COMBINED: &str = r#"^(?<ip>\S+) (?<ident>\S+) (?<user>\S+) \[(?<when>[^\]]+)\] "(?<method>\S+) (?<path>[^"]*) HTTP/[\d.]+" (?<status>\d{3}) (?<size>\d+|-) "(?<referrer>[^"]*)" "(?<agent>[^"]*)"$"#;
/// The groups of [`COMBINED`].
pub const GROUPS: [&str; 10] =
    ["ip", "ident", "user", "when", "method", "path", "status", "size", "referrer", "agent"];
pub const WHEN: usize = 3;
pub const STATUS: usize = 6;
pub const SIZE: usize = 7;

pub const DATE: &str = "%d/%b/%Y:%H:%M:%S %z";

/// The fields that are read of a JSON row.
pub const JSON_FIELDS: [&str; 3] = ["level", "service", "status"];

/// A row goes to the first that matches, else to `CASES.len()`.
pub const CASES: [&str; 8] = [
    r#"" 5\d\d "#,
    "(?i:bot|crawler|spider)",
    r#""(?:GET|POST) /api/v[12]/"#,
    r#"" 4\d\d "#,
    r"/static/|/assets/|\.(?:css|js|png|jpg)[? ]",
    "/login|/logout|/oauth/",
    r"^10\.\d+\.\d+\.\d+ ",
    r#""https?://(?:www\.)?example\.(?:com|org)/"#,
];
/// Where a row goes that is a large answer with a fault of the server, in the chain.
pub const ALERT: usize = 9;
pub const ROUTES: usize = 10;

/// An answer with a fault that is larger than this, in bytes, is one for [`ALERT`].
pub const ALERT_BYTES: u64 = 1_000;
