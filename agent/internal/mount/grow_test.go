package mount

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestADevicesSizeIsFoundByItsNumber(t *testing.T) {
	// As glibc's makedev packs them: major 254, minor 32; and large numbers.
	for device, want := range map[uint64]string{
		254<<8 | 32: "/sys/dev/block/254:32/size",
	} {
		if want != "" && sizePath(device) != want {
			t.Errorf("%#x is %s", device, sizePath(device))
		}
	}
	major, minor := uint64(0x12345), uint64(0x54321)
	packed := minor&0xff | (major&0xfff)<<8 | (minor&^0xff)<<12 | (major&^0xfff)<<32
	if got := sizePath(packed); got != "/sys/dev/block/74565:344865/size" {
		t.Errorf("large numbers give %s", got)
	}
}

func TestGrowingWaitsForTheKernel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "size")
	if err := waitForSize(path, 1, 0); err == nil {
		t.Error("a device that is not there")
	}
	os.WriteFile(path, []byte("8\n"), 0o600)
	if err := waitForSize(path, 4096, 0); err != nil {
		t.Error(err)
	}
	if err := waitForSize(path, 4097+511, 0); err == nil {
		t.Error("a device that stays small")
	}
	done := make(chan error)
	go func() { done <- waitForSize(path, 1<<40, time.Minute) }()
	os.WriteFile(path+".new", []byte("2147483648\n"), 0o600)
	os.Rename(path+".new", path)
	if err := <-done; err != nil {
		t.Error(err)
	}
	os.WriteFile(path, []byte("many\n"), 0o600)
	if err := waitForSize(path, 1, 0); err == nil {
		t.Error("no number")
	}
}
