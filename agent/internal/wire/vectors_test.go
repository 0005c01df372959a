package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

type vectors struct {
	Frames []struct {
		Name, Payload, Hex string
		Type               uint8
		Flags              uint16
		Stream, Length     uint32
		Offset             uint32
	}
	Messages []struct {
		Name, Hex string
		Kind      byte
		Fields    map[string]json.RawMessage
	}
	Resync struct{ Token, Nonce, Request, Reply string }
}

func load(t *testing.T) (v vectors) {
	t.Helper()
	text, err := os.ReadFile("../../../protocol/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFramesAreThoseOfTheVectors(t *testing.T) {
	for _, f := range load(t).Frames {
		raw := unhex(t, f.Hex)
		got, n, err := Parse(raw)
		if err != nil || n != len(raw) {
			t.Fatalf("%s: %d %v", f.Name, n, err)
		}
		want := Frame{f.Type, f.Flags, f.Stream, f.Length, f.Offset, unhex(t, f.Payload)}
		if !bytes.Equal(AppendFrame(nil, want), raw) {
			t.Errorf("%s is encoded otherwise", f.Name)
		}
		if got.Payload == nil {
			got.Payload = []byte{}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, not %+v", f.Name, got, want)
		}
		for cut := range raw {
			if _, _, err := Parse(raw[:cut]); err != ErrShort {
				t.Errorf("%s cut at %d: %v", f.Name, cut, err)
			}
		}
	}
}

// field finds a message's field by the vectors' name, which is Python's.
func field(m Message, name string) reflect.Value {
	return reflect.ValueOf(m).Elem().FieldByNameFunc(func(candidate string) bool {
		return strings.EqualFold(candidate, strings.ReplaceAll(name, "_", ""))
	})
}

func TestMessagesAreThoseOfTheVectors(t *testing.T) {
	for _, v := range load(t).Messages {
		raw := unhex(t, v.Hex)
		m, n, err := TakeMessage(raw)
		if err != nil || n != len(raw) || m.Kind() != v.Kind {
			t.Fatalf("%s: %v %d %v", v.Name, m, n, err)
		}
		if !bytes.Equal(Encode(m), raw) {
			t.Errorf("%s is encoded otherwise", v.Name)
		}
		for name, text := range v.Fields {
			got := field(m, name)
			if !got.IsValid() {
				t.Fatalf("%s has no field %s", v.Name, name)
			}
			want := reflect.New(got.Type())
			switch p := want.Interface().(type) {
			case *[]byte:
				var s string
				json.Unmarshal(text, &s)
				*p = unhex(t, s)
			case *[][]byte:
				var list []string
				json.Unmarshal(text, &list)
				for _, s := range list {
					*p = append(*p, unhex(t, s))
				}
			default:
				if err := json.Unmarshal(text, p); err != nil {
					t.Fatal(err)
				}
			}
			same := reflect.DeepEqual(got.Interface(), want.Elem().Interface())
			if empty := got.Kind() == reflect.Slice && got.Len()+want.Elem().Len() == 0; !same && !empty {
				same = sameLists(got.Interface(), want.Elem().Interface())
			} else {
				same = same || empty
			}
			if !same {
				t.Errorf("%s.%s: %v, not %v", v.Name, name, got, want.Elem())
			}
		}
	}
}

// sameLists compares lists in which nil and empty mean the same.
func sameLists(a, b any) bool {
	x, ok := a.([][]byte)
	y, both := b.([][]byte)
	if !ok || !both || len(x) != len(y) {
		return false
	}
	for i := range x {
		if !bytes.Equal(x[i], y[i]) {
			return false
		}
	}
	return true
}

func TestBadMessagesAreRefused(t *testing.T) {
	for name, raw := range map[string]string{
		"unknown kind":     "7f00000000",
		"too long":         "0100400001",
		"short header":     "050000000401000000",
		"past the end":     "05000000050100000001",
		"number of 1 byte": "0500000006010000000101",
		"given twice":      "050000001a0100000008000000000000000101000000080000000000000001",
	} {
		if _, _, err := TakeMessage(unhex(t, raw)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, _, err := TakeMessage(unhex(t, "05000000066300000001aa")); err != nil {
		t.Errorf("an unknown tag is refused: %v", err)
	}
}

func TestResyncIsThatOfTheVectors(t *testing.T) {
	r := load(t).Resync
	request, nonce := unhex(t, r.Request), unhex(t, r.Nonce)
	if at := NewScanner().Find(request); at < 0 || !bytes.Equal(request[at:], nonce) {
		t.Error("the request is not found")
	}
	if !bytes.Equal(append([]byte(Magic), nonce...), unhex(t, r.Reply)) {
		t.Error("the reply is another")
	}
}
