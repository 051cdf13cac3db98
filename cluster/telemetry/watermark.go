package telemetry

import "slices"

// maxEpochs is how many sessions of a node are followed at once: the live one, and those whose backlog it still sends.
const maxEpochs = 8

// Watermark decides up to where a node's numbered messages (batches or events, one Watermark each) are acknowledged.
// The zero value knows nothing. Not for concurrent use.
//
// Messages of an epoch form a chain: each names the one before it that the node still holds. The watermark moves only
// along the chain, so it never covers a message that went astray.
type Watermark struct {
	epochs []epochMark // the one heard of last comes last
}

type epochMark struct {
	epoch, seq uint64
}

// Accept takes note of a message that is stored for good, and returns the watermark of its epoch: everything up to seq
// may be acknowledged. ok is false when this message did not join the chain; then it is kept, but the node has to send
// what lies between (and this one) again. A duplicate is fine.
func (w *Watermark) Accept(epoch, seq, prev uint64) (mark uint64, ok bool) {
	i := slices.IndexFunc(w.epochs, func(e epochMark) bool { return e.epoch == epoch })
	e := epochMark{epoch: epoch}
	if i >= 0 {
		e = w.epochs[i]
		w.epochs = slices.Delete(w.epochs, i, i+1)
	}
	ok = prev <= e.seq
	if ok {
		e.seq = max(e.seq, seq)
	}
	if i < 0 && !ok {
		return 0, false // nothing to remember
	}
	if len(w.epochs) == maxEpochs {
		w.epochs = slices.Delete(w.epochs, 0, 1)
	}
	w.epochs = append(w.epochs, e)
	return e.seq, ok
}

// At returns the watermark of epoch, 0 when nothing of it was accepted or it was forgotten: a node whose session was
// forgotten is merely asked for more than needed.
func (w *Watermark) At(epoch uint64) uint64 {
	for _, e := range w.epochs {
		if e.epoch == epoch {
			return e.seq
		}
	}
	return 0
}
