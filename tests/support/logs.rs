//! Real-shaped logs from a seed: combined access log, JSON lines, syslog. The same seed gives the same bytes, so
//! that tests and benchmarks can say what they expect.

use std::fmt::Write as _;

/// What the lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Combined access log, about 190 bytes a line.
    Access,
    /// One JSON object a line.
    Json,
    /// RFC 3164 and RFC 5424 lines, mixed.
    Syslog,
}

/// Makes lines without end.
pub struct Logs {
    shape: Shape,
    random: Random,
    /// Milliseconds since 1970 UTC; every line is a little later than the one before.
    time_ms: i64,
}

/// A small generator with good enough bits (splitmix64, Steele et al. 2014); not for secrets.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len() as u64) as usize]
    }
}

const USERS: &[&str] = &["-", "-", "-", "-", "-", "-", "ann", "bob", "carla", "dmitri", "eve", "frank"];
const PATHS: &[&str] = &[
    "/",
    "/index.html",
    "/products",
    "/products/4711/reviews",
    "/search",
    "/login",
    "/cart",
    "/checkout/confirm",
    "/static/css/site.css",
    "/static/js/app.min.js",
    "/images/logo.svg",
    "/api/v1/orders",
    "/api/v1/users/me",
    "/admin/users",
    "/health",
    "/robots.txt",
];
const REFERRERS: &[&str] = &[
    "-",
    "-",
    "https://www.example.com/",
    "https://www.example.com/products",
    "https://search.example.net/?q=garden+chair",
    "https://news.example.org/2026/11/23/the-best-garden-chairs-of-the-year",
];
const AGENTS: &[&str] = &[
    "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
    "curl/8.9.1",
    "kube-probe/1.31",
    "ExampleBot/2.1 (+https://bot.example/about)",
];
const SERVICES: &[&str] = &["checkout", "cart", "search", "billing", "gateway"];
const LEVELS: &[&str] = &["debug", "info", "info", "info", "info", "warn", "error"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl Logs {
    pub fn new(shape: Shape, seed: u64) -> Logs {
        // 2026-11-23T00:00:00Z
        Logs { shape, random: Random::new(seed), time_ms: 1_795_392_000_000 }
    }

    /// Appends one line with its newline.
    pub fn line(&mut self, out: &mut String) {
        self.time_ms += 1 + self.random.below(180) as i64;
        match self.shape {
            Shape::Access => self.access(out),
            Shape::Json => self.json(out),
            Shape::Syslog => self.syslog(out),
        }
        out.push('\n');
    }

    /// `count` lines in one text.
    #[allow(dead_code, reason = "not every target that includes this module needs it")]
    pub fn text(&mut self, count: usize) -> String {
        let mut out = String::with_capacity(count * 200);
        for _ in 0..count {
            self.line(&mut out);
        }
        out
    }

    fn ip(&mut self) -> String {
        let mut part = || self.random.below(254) + 1;
        format!("{}.{}.{}.{}", part(), part(), part(), part())
    }

    fn status(&mut self) -> u64 {
        match self.random.below(100) {
            0..=69 => 200,
            70..=76 => 304,
            77..=81 => 301,
            82..=85 => 201,
            86..=91 => 404,
            92..=94 => 403,
            95..=96 => 500,
            97 => 502,
            _ => 503,
        }
    }

    fn access(&mut self, out: &mut String) {
        let ip = self.ip();
        let user = self.random.pick(USERS);
        let at = Clock::new(self.time_ms);
        let method = self.random.pick(&["GET", "GET", "GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD"]);
        let path = self.random.pick(PATHS);
        let query = if self.random.below(4) == 0 {
            format!("?id={}&page={}", self.random.below(100_000), self.random.below(30))
        } else {
            String::new()
        };
        let status = self.status();
        let bytes = self.random.below(90_000);
        let referrer = self.random.pick(REFERRERS);
        let agent = self.random.pick(AGENTS);
        let _ = write!(
            out,
            "{ip} - {user} [{:02}/{}/{}:{:02}:{:02}:{:02} +0000] \"{method} {path}{query} HTTP/1.1\" {status} \
             {bytes} \"{referrer}\" \"{agent}\"",
            at.day,
            MONTHS[at.month as usize - 1],
            at.year,
            at.hour,
            at.minute,
            at.second,
        );
    }

    fn json(&mut self, out: &mut String) {
        let at = Clock::new(self.time_ms);
        let ip = self.ip();
        let status = self.status();
        let _ = write!(
            out,
            "{{\"time\":\"{}\",\"level\":\"{}\",\"service\":\"{}\",\"trace\":\"{:016x}\",\"client\":\"{ip}\",\
             \"status\":{status},\"duration_ms\":{}.{:03},\"message\":\"{} {}\"}}",
            at.rfc3339(),
            self.random.pick(LEVELS),
            self.random.pick(SERVICES),
            self.random.next(),
            self.random.below(900),
            self.random.below(1000),
            self.random.pick(&["GET", "POST"]),
            self.random.pick(PATHS),
        );
    }

    fn syslog(&mut self, out: &mut String) {
        let at = Clock::new(self.time_ms);
        let priority = self.random.below(24) * 8 + self.random.below(8);
        let host = format!("web{:02}", self.random.below(12) + 1);
        let app = self.random.pick(&["sshd", "cron", "nginx", "kernel", "postfix/smtpd"]);
        let pid = self.random.below(32_000) + 1;
        let message = match self.random.below(3) {
            0 => format!("Accepted publickey for ann from {} port {}", self.ip(), self.random.below(60_000)),
            1 => format!("connection from {} closed after {} ms", self.ip(), self.random.below(9_000)),
            _ => format!("job {} finished with status {}", self.random.below(500), self.random.below(3)),
        };
        if self.random.below(2) == 0 {
            let _ = write!(
                out,
                "<{priority}>{} {:>2} {:02}:{:02}:{:02} {host} {app}[{pid}]: {message}",
                MONTHS[at.month as usize - 1],
                at.day,
                at.hour,
                at.minute,
                at.second
            );
        } else {
            let _ = write!(
                out,
                "<{priority}>1 {} {host}.example {app} {pid} ID{} [origin@32473 seq=\"{}\"] {message}",
                at.rfc3339(),
                self.random.below(99),
                self.random.below(100_000)
            );
        }
    }
}

/// A time of day in UTC.
struct Clock {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    milli: i64,
}

impl Clock {
    fn new(time_ms: i64) -> Clock {
        let seconds = time_ms.div_euclid(1000);
        let days = seconds.div_euclid(86_400);
        let rest = seconds.rem_euclid(86_400);
        // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Clock {
            year,
            month,
            day,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            milli: time_ms.rem_euclid(1000),
        }
    }

    fn rfc3339(&self) -> String {
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            self.year, self.month, self.day, self.hour, self.minute, self.second, self.milli
        )
    }
}
