package workload

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// start has both files stand where the wanted lines begin.
func (r *logReader) start(old, current *os.File) error {
	if r.query.Tail < 0 {
		return nil
	}
	missing, err := toTail(current, r.query.Tail)
	if err != nil || old == nil {
		return err
	}
	_, err = toTail(old, missing)
	return err
}

// block is how much of a log is looked at at once, from its end.
const block = 32 << 10

// toTail has f stand before its last n whole lines, and returns how many of them f has not. A line that was written in
// parts is one.
func toTail(f *os.File, n int) (missing int, err error) {
	if f == nil {
		return n, nil
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("read log: %w", err)
	}
	var head []byte // of the line that begins before what was looked at
	for at := end; at > 0; {
		size := min(at, block)
		at -= size
		buf := make([]byte, size, size+int64(len(head)))
		if _, err := f.ReadAt(buf, at); err != nil {
			return 0, fmt.Errorf("read log: %w", err)
		}
		buf = append(buf, head...)
		for {
			nl := bytes.LastIndexByte(buf, '\n')
			if nl < 0 {
				break
			}
			line := buf[nl+1:] // its newline, if it has one, was cut off before
			if l, ok := parseLine(line); ok && !l.partial {
				if n == 0 {
					_, err := f.Seek(at+int64(nl)+1+int64(len(line))+1, io.SeekStart)
					return 0, err
				}
				n--
			}
			buf = buf[:nl]
		}
		head = buf
		if len(head) > maxLogLine {
			head = head[:maxLogLine]
		}
	}
	if l, ok := parseLine(head); ok && !l.partial {
		if n == 0 {
			_, err := f.Seek(int64(len(head))+1, io.SeekStart)
			return 0, err
		}
		n--
	}
	_, err = f.Seek(0, io.SeekStart)
	return n, err
}
