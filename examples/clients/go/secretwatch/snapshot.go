package secretwatch

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Snapshot is all values of a volume, of one revision. It does not change, so any goroutine may
// keep it; do not write to the slices it gives.
type Snapshot struct {
	Revision string
	Version  string
	data     map[string][]byte
}

func parse(body []byte) (*Snapshot, error) {
	var document struct {
		Revision string            `json:"revision"`
		Version  string            `json:"version"`
		Data     map[string][]byte `json:"data"` // base64, which this decodes
	}
	if err := json.Unmarshal(body, &document); err != nil || document.Revision == "" {
		return nil, fmt.Errorf("the answer is not a document of secretwatch")
	}
	if document.Version == "" {
		document.Version = "-"
	}
	return &Snapshot{document.Revision, document.Version, document.Data}, nil
}

// Bytes gives the value of a key.
func (s *Snapshot) Bytes(key string) ([]byte, error) {
	value, ok := s.data[key]
	if !ok {
		return nil, fmt.Errorf("no key %q", key)
	}
	return value, nil
}

// String shows no values, as it may end up in a log.
func (s Snapshot) String() string {
	return fmt.Sprintf("snapshot %s, version %s", s.Revision, s.Version)
}

// GoString is what %#v prints.
func (s Snapshot) GoString() string { return s.String() }

func (s *Snapshot) hasValuesOf(other *Snapshot) bool {
	if other == nil || len(s.data) != len(other.data) {
		return false
	}
	for key, value := range s.data {
		if known, ok := other.data[key]; !ok || !bytes.Equal(known, value) {
			return false
		}
	}
	return true
}
