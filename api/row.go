package api

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// ReadJSON reads the row at the front of data, after white space, and returns what follows it. It takes exactly what
// encoding/json takes as an array of numbers and nulls with a whole number in front.
func (r *Row) ReadJSON(data []byte) (rest []byte, err error) {
	i := skipSpace(data, 0)
	if i == len(data) || data[i] != '[' {
		return nil, fmt.Errorf("%.20q: wanted [milliseconds after t0, value, …]", data[i:])
	}
	i = skipSpace(data, i+1)
	if i < len(data) && data[i] == ']' {
		return nil, errors.New("row has no offset; wanted [milliseconds after t0, value, …]")
	}
	end := bytes.IndexByte(data[i:], ']')
	if end < 0 {
		return nil, errors.New("row has no end; wanted ]")
	}
	r.Values = make([]float64, 0, bytes.Count(data[i:i+end], []byte{','})) // no longer than the text it comes from
	for first := true; ; first = false {
		v, next, err := readCell(data, i)
		if err != nil {
			return nil, err
		}
		switch {
		case !first:
			r.Values = append(r.Values, v)
		case math.IsNaN(v):
			return nil, errors.New("row has no offset; wanted [milliseconds after t0, value, …]")
		default:
			if err := r.setOffset(v); err != nil {
				return nil, err
			}
		}
		i = skipSpace(data, next)
		if i == len(data) {
			return nil, errors.New("row has no end; wanted ]")
		}
		switch data[i] {
		case ']':
			return data[i+1:], nil
		case ',':
			i = skipSpace(data, i+1)
		default:
			return nil, fmt.Errorf("%.20q in a row: wanted a comma or ]", data[i:])
		}
	}
}

// readCell reads the number or null at data[i]; null is NaN.
func readCell(data []byte, i int) (v float64, next int, err error) {
	if bytes.HasPrefix(data[i:], []byte("null")) {
		return math.NaN(), i + 4, nil
	}
	next = numberEnd(data, i)
	if next < 0 {
		return 0, 0, fmt.Errorf("%.20q in a row: wanted a number or null", data[i:])
	}
	v, err = strconv.ParseFloat(string(data[i:next]), 64)
	if err != nil { // the syntax is fine, so it is out of range
		return 0, 0, fmt.Errorf("%.20q in a row: beyond a 64-bit float", data[i:next])
	}
	return v, next, nil
}

// numberEnd returns the index after the JSON number at data[i] (RFC 8259 §6), or -1 when there is none.
func numberEnd(data []byte, i int) int {
	if i < len(data) && data[i] == '-' {
		i++
	}
	start := i
	if i = digits(data, i); i == start || data[start] == '0' && i > start+1 {
		return -1
	}
	if i < len(data) && data[i] == '.' {
		start = i + 1
		if i = digits(data, start); i == start {
			return -1
		}
	}
	if i < len(data) && (data[i] == 'e' || data[i] == 'E') {
		i++
		if i < len(data) && (data[i] == '+' || data[i] == '-') {
			i++
		}
		start = i
		if i = digits(data, start); i == start {
			return -1
		}
	}
	return i
}

func digits(data []byte, i int) int {
	for i < len(data) && data[i] >= '0' && data[i] <= '9' {
		i++
	}
	return i
}

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\n' || data[i] == '\r') {
		i++
	}
	return i
}
