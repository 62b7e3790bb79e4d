use std::mem;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A reference to a connection, as the registry keeps it. Its drop never unwinds.
///
/// This may be the last reference, and it may be dropped in the middle of another caller's operation, or
/// along with a thousand others. A destructor that panics must affect neither that operation nor the other
/// drops. The panic hook has reported the panic already, so it ends here.
pub(crate) struct Kept<C: ?Sized>(Option<Arc<C>>);

impl<C: ?Sized> Kept<C> {
    pub(crate) fn new(conn: Arc<C>) -> Self {
        Self(Some(conn))
    }

    pub(crate) fn into_arc(mut self) -> Arc<C> {
        self.0
            .take()
            .expect("only this call and the drop take the connection")
    }
}

impl<C: ?Sized> Deref for Kept<C> {
    type Target = Arc<C>;

    #[inline]
    fn deref(&self) -> &Arc<C> {
        self.0.as_ref().expect("only the drop takes the connection")
    }
}

impl<C: ?Sized> Clone for Kept<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C: ?Sized> Drop for Kept<C> {
    fn drop(&mut self) {
        let Some(conn) = self.0.take() else { return };
        let mut thrown = catch_unwind(AssertUnwindSafe(|| drop(conn))).err();
        // The panic payload may panic when it is dropped, too. After a few attempts it is leaked.
        for _ in 0..3 {
            thrown = thrown.and_then(|payload| {
                let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
                dropped.err()
            });
        }
        mem::forget(thrown);
    }
}

#[cfg(test)]
impl<C> Kept<C> {
    pub(crate) fn of(conn: C) -> Self {
        Self::new(Arc::new(conn))
    }
}
