package outbox

// shelf is a tier as the policy sees it: records in order, and one atomic change at a time. The hot file and the flash
// file are both one.
type shelf interface {
	// scan calls fn with the records of s from key from on, in order, until fn returns false.
	scan(s stream, from key, fn func(meta) bool) error
	// held is how many bytes its records take.
	held() int64
	// load returns the record of m as scan told it.
	load(m *meta) (record, error)
	// change applies e as a whole or not at all.
	change(e *edit) error
}

// edit is what one atomic change does: forget del, keep put (a record with the key of an older one replaces it), and
// remember st.
type edit struct {
	del []meta
	put []record
	st  state
}
