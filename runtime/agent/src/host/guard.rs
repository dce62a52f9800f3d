//! Runs the code of components so that it cannot hurt the host: a panic becomes a fault, and a poll that blocks
//! (file IO) does not hold a worker of the runtime.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::traits::Fault;

/// Awaits a component; a panic is given back as a fault. After it the component must not be used again.
pub(crate) async fn guarded<F: Future>(future: F) -> Result<F::Output, Fault> {
    let mut future = pin!(future);
    std::future::poll_fn(move |context| {
        // What the future borrows is dropped or rebuilt by the caller after a panic.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(panic) => Poll::Ready(Err(panic_fault(panic.as_ref()))),
        }
    })
    .await
}

/// Calls a component; a panic is given back as a fault.
pub(crate) fn guarded_call<T>(call: impl FnOnce() -> T) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| panic_fault(panic.as_ref()))
}

/// Awaits something whose polls may block on files. On the multi-thread runtime every poll runs under
/// `block_in_place`: the worker hands its other tasks to another thread first. Polls and not the whole wait, so that
/// a sink that waits for the network holds no thread and can still be given up. On a current-thread runtime there
/// is nobody to hand over to and it just runs.
pub(crate) async fn blocking<F: Future>(future: F) -> F::Output {
    let multi_thread = Handle::try_current()
        .is_ok_and(|handle| matches!(handle.runtime_flavor(), RuntimeFlavor::MultiThread));
    if !multi_thread {
        return future.await;
    }
    let mut future = pin!(future);
    std::future::poll_fn(move |context| tokio::task::block_in_place(|| future.as_mut().poll(context))).await
}

fn panic_fault(panic: &(dyn Any + Send)) -> Fault {
    let text = panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Fault::new(format!("internal error: {text}")).code("F1109").help("please report this with the flow file")
}
