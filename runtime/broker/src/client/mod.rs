//! A small Kafka client: one connection, requests pipelined on it. For the command line, tests and benchmarks; used
//! against other brokers too, so it agrees on versions with whoever it talks to and believes no length it reads.

mod admin;
mod authentication;
mod peek;
mod records;
mod stream;

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use admin::{Admin, GroupInfo, PartitionInfo, Place, TopicInfo};
pub use authentication::{Login, LoginMechanism};
pub use peek::PeekedRecord;
pub use records::{FetchFrom, Fetched, Produced};
pub use stream::ClientTls;

use crate::wire::shape;

/// Bytes of one answer.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// What is read at once.
const READ_BYTES: usize = 64 << 10;
/// Requests on their way on one connection; the next one waits.
const REQUESTS_MAX: usize = 1024;

/// How to reach a broker.
#[derive(Clone)]
pub struct ClientConfig {
    /// `host:port`.
    pub address: String,
    /// What the broker is told as the client's name.
    pub client_id: String,
    pub tls: Option<ClientTls>,
    pub login: Option<Login>,
    /// Connecting, and each call.
    pub timeout_ms: u64,
}

impl ClientConfig {
    pub fn new(address: impl Into<String>) -> ClientConfig {
        ClientConfig {
            address: address.into(),
            client_id: "flowc".to_owned(),
            tls: None,
            login: None,
            timeout_ms: 30_000,
        }
    }
}

/// Why a call fails.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot connect to `{address}`: {reason}")]
    Connect { address: String, reason: String },
    #[error("the connection broke: {0}")]
    Io(Arc<io::Error>),
    #[error("the broker closed the connection")]
    Closed,
    #[error("no answer within {0} ms")]
    Late(u64),
    #[error("the broker knows no version of API {key} that is known here")]
    Version { key: i16 },
    #[error("the broker's answer is malformed: {0}")]
    Malformed(String),
    #[error("the request cannot be encoded: {0}")]
    Encode(String),
    #[error("login failed: {0}")]
    Login(String),
    #[error("the broker refuses: {0}")]
    Refused(String),
    #[error("the broker answers {}", name(*.0))]
    Answer(i16),
}

fn name(code: i16) -> String {
    match ResponseError::try_from_code(code) {
        Some(error) => format!("{error:?} ({code})"),
        None => format!("error {code}"),
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> ClientError {
        ClientError::Io(Arc::new(error))
    }
}

/// One connection to a broker. Requests are sent in the order of the calls, without waiting for answers. Dropping it
/// closes the connection.
pub struct Client {
    config: ClientConfig,
    /// By key, sorted: what the broker knows.
    versions: Vec<ApiVersion>,
    shared: Arc<Shared>,
    outbox: mpsc::Sender<Bytes>,
    correlation: AtomicI32,
    reader: tokio::task::JoinHandle<()>,
    writer: tokio::task::JoinHandle<()>,
}

/// What the reader and the callers share.
struct Shared {
    waiting: Mutex<Waiting>,
    /// Bounds what is on its way.
    slots: Arc<Semaphore>,
}

#[derive(Default)]
struct Waiting {
    /// Answers come in the order of the requests.
    calls: VecDeque<Call>,
    /// Why there will be no more.
    broken: Option<ClientError>,
}

struct Call {
    correlation_id: i32,
    answer: oneshot::Sender<Result<Bytes, ClientError>>,
}

/// An answer that is on its way.
pub struct Answer<R> {
    correlation_id: i32,
    version: i16,
    timeout_ms: u64,
    answer: oneshot::Receiver<Result<Bytes, ClientError>>,
    request: PhantomData<fn() -> R>,
}

impl<R: Request> Answer<R> {
    /// Waits for it.
    ///
    /// # Errors
    ///
    /// A connection that broke, an answer that is malformed or late.
    pub async fn get(self) -> Result<R::Response, ClientError> {
        let timeout = Duration::from_millis(self.timeout_ms);
        let frame = match tokio::time::timeout(timeout, self.answer).await {
            Ok(Ok(frame)) => frame?,
            Ok(Err(_)) => return Err(ClientError::Closed),
            Err(_) => return Err(ClientError::Late(self.timeout_ms)),
        };
        decode_answer::<R>(self.correlation_id, self.version, frame)
    }
}

impl Client {
    /// Connects, agrees on versions, and logs in.
    ///
    /// # Errors
    ///
    /// A broker that cannot be reached, speaks something else, or does not let us in.
    pub async fn connect(config: ClientConfig) -> Result<Client, ClientError> {
        let timeout = Duration::from_millis(config.timeout_ms);
        let late = ClientError::Late(config.timeout_ms);
        tokio::time::timeout(timeout, Client::open(config)).await.unwrap_or(Err(late))
    }

    async fn open(config: ClientConfig) -> Result<Client, ClientError> {
        let (mut read, mut write) = stream::connect(&config).await?;
        let versions = agree(&mut read, &mut write, &config.client_id).await?;
        let shared =
            Arc::new(Shared { waiting: Mutex::default(), slots: Arc::new(Semaphore::new(REQUESTS_MAX)) });
        let (outbox, inbox) = mpsc::channel(REQUESTS_MAX);
        let (for_reader, for_writer) = (Arc::clone(&shared), Arc::clone(&shared));
        let reader = tokio::spawn(async move {
            let error = match read_answers(&for_reader, read).await {
                Ok(()) => ClientError::Closed,
                Err(error) => error,
            };
            for_reader.give_up(error);
        });
        let writer = tokio::spawn(async move {
            if let Err(error) = write_requests(inbox, write).await {
                for_writer.give_up(error.into());
            }
        });
        let correlation = AtomicI32::new(1);
        let client = Client { config, versions, shared, outbox, correlation, reader, writer };
        if let Some(login) = &client.config.login {
            authentication::log_in(&client, login).await?;
        }
        Ok(client)
    }

    /// The version of an API that both sides know, the newest one.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn version<R: Request>(&self) -> Result<i16, ClientError> {
        self.version_at_most::<R>(i16::MAX)
    }

    fn version_at_most<R: Request>(&self, most: i16) -> Result<i16, ClientError> {
        let unknown = ClientError::Version { key: R::KEY };
        let at = self.versions.binary_search_by_key(&R::KEY, |api| api.api_key);
        let Ok(at) = at else { return Err(unknown) };
        let (ours, theirs) = (<R as Message>::VERSIONS, &self.versions[at]);
        let newest = ours.max.min(theirs.max_version).min(shape::newest(R::KEY)).min(most);
        if newest < ours.min.max(theirs.min_version) { Err(unknown) } else { Ok(newest) }
    }

    /// Sends a request in the newest version that both sides know, and waits for the answer.
    ///
    /// # Errors
    ///
    /// No common version, a connection that broke, an answer that is malformed or late. Errors *in* the answer are the
    /// caller's to see.
    pub async fn call<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        self.send(self.version::<R>()?, request).await?.get().await
    }

    /// Sends a request in a version of the caller's choice, and waits for the answer.
    ///
    /// # Errors
    ///
    /// As [`Client::call`].
    pub async fn call_version<R: Request>(
        &self,
        version: i16,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        self.send(version, request).await?.get().await
    }

    /// Sends a request; the answer can be waited for later, while others are sent. Waits itself only when very many are
    /// on their way.
    ///
    /// # Errors
    ///
    /// A request that cannot be encoded in this version, a connection that broke.
    pub async fn send<R: Request>(&self, version: i16, request: &R) -> Result<Answer<R>, ClientError> {
        let (sender, answer) = oneshot::channel();
        let correlation_id = self.enqueue(version, request, Some(sender)).await?;
        let timeout_ms = self.config.timeout_ms;
        Ok(Answer { correlation_id, version, timeout_ms, answer, request: PhantomData })
    }

    /// Sends a request that gets no answer: a produce request with acks=0.
    ///
    /// # Errors
    ///
    /// As [`Client::send`].
    pub async fn send_unanswered<R: Request>(&self, version: i16, request: &R) -> Result<(), ClientError> {
        self.enqueue(version, request, None).await.map(drop)
    }

    async fn enqueue<R: Request>(
        &self,
        version: i16,
        request: &R,
        answer: Option<oneshot::Sender<Result<Bytes, ClientError>>>,
    ) -> Result<i32, ClientError> {
        if answer.is_some() {
            // Given back by the reader, answer by answer.
            let slot = self.shared.slots.acquire().await;
            slot.map_err(|_| self.broken())?.forget();
        }
        let correlation_id = self.correlation.fetch_add(1, Ordering::Relaxed);
        let encoded = encode_request(version, request, correlation_id, &self.config.client_id);
        let frame = match encoded {
            Ok(frame) => frame,
            Err(error) => {
                self.shared.slots.add_permits(usize::from(answer.is_some()));
                return Err(error);
            }
        };
        let place = self.outbox.reserve().await.map_err(|_| self.broken())?;
        // Under the lock: the order of those who wait is the order on the wire.
        let mut waiting = self.shared.lock();
        if let Some(error) = &waiting.broken {
            return Err(error.clone());
        }
        if let Some(answer) = answer {
            waiting.calls.push_back(Call { correlation_id, answer });
        }
        place.send(frame);
        Ok(correlation_id)
    }

    /// Why nothing goes any more.
    fn broken(&self) -> ClientError {
        self.shared.lock().broken.clone().unwrap_or(ClientError::Closed)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody who waits, and who will call, that the connection is over.
    fn give_up(&self, error: ClientError) {
        let mut waiting = self.lock();
        let error = waiting.broken.get_or_insert(error).clone();
        for call in waiting.calls.drain(..) {
            // Whoever stopped waiting does not mind.
            let _ = call.answer.send(Err(error.clone()));
        }
        self.slots.close();
    }
}

async fn write_requests(mut inbox: mpsc::Receiver<Bytes>, mut write: stream::Write) -> io::Result<()> {
    let mut many = Vec::new();
    while inbox.recv_many(&mut many, REQUESTS_MAX).await > 0 {
        for frame in many.drain(..) {
            write.write_all(&frame).await?;
        }
        write.flush().await?;
    }
    Ok(())
}

async fn read_answers(shared: &Shared, mut read: stream::Read) -> Result<(), ClientError> {
    let mut buffer = BytesMut::new();
    loop {
        let Some(frame) = read_frame(&mut read, &mut buffer).await? else { return Ok(()) };
        let Some(correlation_id) = frame.first_chunk::<4>().map(|id| i32::from_be_bytes(*id)) else {
            return Err(ClientError::Malformed(format!("{} bytes", frame.len())));
        };
        let call = shared.lock().calls.pop_front();
        let Some(call) = call.filter(|call| call.correlation_id == correlation_id) else {
            return Err(ClientError::Malformed(format!("nobody asked for answer {correlation_id}")));
        };
        shared.slots.add_permits(1);
        let _ = call.answer.send(Ok(frame));
    }
}

/// The next answer without its length; `None` at the end.
async fn read_frame(read: &mut stream::Read, buffer: &mut BytesMut) -> Result<Option<Bytes>, ClientError> {
    loop {
        let mut missing = READ_BYTES;
        if let Some(length) = buffer.first_chunk::<4>() {
            let length = i32::from_be_bytes(*length);
            let length = usize::try_from(length).ok().filter(|length| *length <= ANSWER_BYTES_MAX);
            let Some(length) = length else {
                return Err(ClientError::Malformed(format!("a length of {:?}", &buffer[..4])));
            };
            if buffer.len() >= 4 + length {
                buffer.advance(4);
                return Ok(Some(buffer.split_to(length).freeze()));
            }
            // Grows with what arrives: the claim alone takes no memory.
            missing = (4 + length - buffer.len()).min(buffer.len().max(READ_BYTES));
        }
        buffer.reserve(missing);
        if read.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Asks for the broker's versions: in the newest version, and if it does not know that one, in the oldest.
async fn agree(
    read: &mut stream::Read,
    write: &mut stream::Write,
    client_id: &str,
) -> Result<Vec<ApiVersion>, ClientError> {
    let mut buffer = BytesMut::new();
    let mut version = 3;
    loop {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("flowc"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let request = if version == 0 { ApiVersionsRequest::default() } else { request };
        write.write_all(&encode_request(version, &request, 0, client_id)?).await?;
        write.flush().await?;
        let frame = read_frame(read, &mut buffer).await?.ok_or(ClientError::Closed)?;
        // Whoever does not know the version answers in version 0, with an error in front.
        let unknown = frame.get(4..6) == Some(&ResponseError::UnsupportedVersion.code().to_be_bytes());
        let answered = if unknown { 0 } else { version };
        let mut answer: ApiVersionsResponse = decode_answer::<ApiVersionsRequest>(0, answered, frame)?;
        if unknown && version > 0 {
            version = 0;
            continue;
        }
        if answer.error_code != 0 {
            return Err(ClientError::Answer(answer.error_code));
        }
        answer.api_keys.sort_unstable_by_key(|api| api.api_key);
        return Ok(answer.api_keys);
    }
}

fn encode_request<R: Request>(
    version: i16,
    request: &R,
    correlation_id: i32,
    client_id: &str,
) -> Result<Bytes, ClientError> {
    let failed = |error: &dyn std::fmt::Display| ClientError::Encode(error.to_string());
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_string(client_id.to_owned())));
    let header_version = R::header_version(version);
    let size = request.compute_size(version).map_err(|error| failed(&error))?
        + header.compute_size(header_version).map_err(|error| failed(&error))?;
    let length = i32::try_from(size).map_err(|error| failed(&error))?;
    let mut frame = BytesMut::with_capacity(4 + size);
    frame.put_i32(length);
    header.encode(&mut frame, header_version).map_err(|error| failed(&error))?;
    request.encode(&mut frame, version).map_err(|error| failed(&error))?;
    Ok(frame.freeze())
}

fn decode_answer<R: Request>(
    correlation_id: i32,
    version: i16,
    mut frame: Bytes,
) -> Result<R::Response, ClientError> {
    let malformed = |reason: String| ClientError::Malformed(format!("API {}: {reason}", R::KEY));
    if frame.len() < 4 || frame.get_i32() != correlation_id {
        return Err(malformed("it is not the answer to this request".to_owned()));
    }
    let header_version = <R::Response as HeaderVersion>::header_version(version);
    let header = shape::check_response_header(header_version, &frame);
    frame.advance(header.map_err(|error| malformed(error.to_string()))?);
    shape::check_response(R::KEY, version, &frame).map_err(|error| malformed(error.to_string()))?;
    R::Response::decode(&mut frame, version).map_err(|error| malformed(error.to_string()))
}

/// Gives the first error of an answer as one of ours.
fn check(code: i16) -> Result<(), ClientError> {
    if code == 0 { Ok(()) } else { Err(ClientError::Answer(code)) }
}
