package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// A testbed is what testbed.json remembers, so that `up` after `kill` repeats the same flags.
type testbed struct {
	Dir     string              `json:"-"`
	Port    int                 `json:"port"`
	Nodes   int                 `json:"nodes"`
	Network string              `json:"network"`
	Kubelet string              `json:"kubelet,omitempty"`
	Extra   map[string][]string `json:"extra,omitempty"`
}

func (t *testbed) file() string { return filepath.Join(t.Dir, "testbed.json") }

func (t *testbed) components() []string {
	if t.Kubelet == "" {
		return order[:len(order)-1]
	}
	return order
}

// openOrCreate takes everything from an existing directory, else writes a new one.
func (t *testbed) openOrCreate(dir string) error {
	var err error
	if t.Dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	text, err := os.ReadFile(t.file())
	if err == nil {
		return json.Unmarshal(text, t)
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := writePKI(t.Dir, t.Port); err != nil {
		return err
	}
	text, err = json.MarshalIndent(t, "", "  ")
	return errors.Join(err, os.WriteFile(t.file(), text, 0o600))
}

// args are a component's flags. A flag that is given twice, as by --COMPONENT-arg, has its last value.
func (t *testbed) args(component string) []string {
	loopback := func(offset int) string { return fmt.Sprintf("http://127.0.0.1:%d", t.Port+offset) }
	// The default limits of clients (20 to 50 requests/s) would dominate every measurement.
	fast := []string{"--kube-api-qps=500", "--kube-api-burst=1000", "--leader-elect=false", "--bind-address=127.0.0.1"}
	var args []string
	switch component {
	case "etcd":
		args = []string{
			"--data-dir=etcd", "--unsafe-no-fsync", "--log-level=warn",
			"--listen-client-urls=" + loopback(1), "--advertise-client-urls=" + loopback(1),
			"--listen-peer-urls=" + loopback(2), "--initial-advertise-peer-urls=" + loopback(2),
			"--initial-cluster=default=" + loopback(2),
		}
	case "kube-apiserver":
		args = []string{
			"--etcd-servers=" + loopback(1), "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
			fmt.Sprintf("--secure-port=%d", t.Port), "--endpoint-reconciler-type=none",
			"--tls-cert-file=pki/apiserver.crt", "--tls-private-key-file=pki/apiserver.key",
			"--client-ca-file=pki/ca.crt", "--authorization-mode=Node,RBAC",
			// The second, which some distributions add, asks for more rights of whoever sets owners.
			"--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement", "--allow-privileged=true",
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file=pki/service-account.crt",
			"--service-account-signing-key-file=pki/service-account.key",
			"--service-cluster-ip-range=10.0.0.0/24",
			// A dead node's pods are evicted after seconds, not after five minutes.
			"--default-unreachable-toleration-seconds=5", "--default-not-ready-toleration-seconds=5",
		}
	case "kube-controller-manager":
		args = append(fast, "--kubeconfig=kube-controller-manager.kubeconfig", fmt.Sprintf("--secure-port=%d", t.Port+3),
			"--use-service-account-credentials", "--service-account-private-key-file=pki/service-account.key",
			"--root-ca-file=pki/ca.crt",
			// Four leases may be missed before a node counts as dead, as with the default values; but they are short.
			"--node-monitor-period=1s", "--node-monitor-grace-period=8s")
	case "kube-scheduler":
		args = append(fast, "--kubeconfig=kube-scheduler.kubeconfig", fmt.Sprintf("--secure-port=%d", t.Port+4))
	case "process-kubelet":
		args = []string{"--root=nodes", fmt.Sprintf("--nodes=%d", t.Nodes), "--pod-network=" + t.Network, "--lease-interval-s=2"}
	}
	return append(args, t.Extra[component]...)
}

func (t *testbed) client() (*http.Client, error) {
	pki := filepath.Join(t.Dir, "pki")
	ca, err := os.ReadFile(filepath.Join(pki, "ca.crt"))
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(pki, "admin.crt"), filepath.Join(pki, "admin.key"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}}
	return &http.Client{Transport: transport, Timeout: 5 * time.Second}, nil
}

// get returns the answer's text; anything but 200 is an error.
func (t *testbed) get(path string) (string, error) {
	client, err := t.client()
	if err != nil {
		return "", err
	}
	defer client.CloseIdleConnections()
	answer, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d%s", t.Port, path))
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, answer.Status)
	}
	return string(body), err
}

func (t *testbed) readyNodes() (int, error) {
	text, err := t.get("/api/v1/nodes")
	if err != nil {
		return 0, err
	}
	var list struct {
		Items []struct {
			Status struct {
				Conditions []struct{ Type, Status string }
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return 0, err
	}
	ready := 0
	for _, node := range list.Items {
		for _, condition := range node.Status.Conditions {
			if condition.Type == "Ready" && condition.Status == "True" {
				ready++
			}
		}
	}
	return ready, nil
}

func (t *testbed) wait(path string, deadline time.Time) error {
	return t.until(deadline, func() error {
		_, err := t.get(path)
		return err
	})
}

func (t *testbed) waitNodes(deadline time.Time) error {
	if t.Kubelet == "" {
		return nil
	}
	return t.until(deadline, func() error {
		ready, err := t.readyNodes()
		if err == nil && ready < t.Nodes {
			err = fmt.Errorf("%d of %d nodes are ready", ready, t.Nodes)
		}
		return err
	})
}

// until asks again until there is no error, a component has died or the time is over.
func (t *testbed) until(deadline time.Time, ask func() error) error {
	for {
		err := ask()
		if err == nil {
			return nil
		}
		for _, component := range t.components() {
			if _, e := os.Stat(pidFile(t.Dir, component)); e == nil && running(t.Dir, component) == nil {
				return fmt.Errorf("%s died, see %s.log", component, filepath.Join(t.Dir, component))
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready in time: %w", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
