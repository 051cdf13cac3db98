package mqtt

import (
	"context"
	"io"

	"github.com/skerry-edge/skerry/api"
)

// Reader returns the bytes of one channel; io.EOF at its end or at that of the stream. After the first call Read no
// longer keeps the order between channels.
func (s *Stream) Reader(ctx context.Context, channel uint8) io.Reader {
	s.mu.Lock()
	s.in.unordered()
	s.mu.Unlock()
	return &streamReader{ctx, s, channel & api.MaxChannel}
}

// Writer writes to one channel. Its Close is EndWrite.
func (s *Stream) Writer(ctx context.Context, channel uint8) io.WriteCloser {
	return &streamWriter{ctx, s, channel}
}

type streamReader struct {
	ctx     context.Context
	s       *Stream
	channel uint8
}

func (r *streamReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return r.s.readChannel(r.ctx, r.channel, p)
}

type streamWriter struct {
	ctx     context.Context
	s       *Stream
	channel uint8
}

func (w *streamWriter) Write(p []byte) (int, error) { return w.s.Write(w.ctx, w.channel, p) }
func (w *streamWriter) Close() error                { return w.s.EndWrite(w.ctx, w.channel) }
