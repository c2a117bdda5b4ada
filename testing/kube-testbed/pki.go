package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// The identities that get a client certificate and a kubeconfig. Nodes need none: process-kubelet impersonates
// system:node:NAME with the admin's identity, and the apiserver then applies the Node authorizer and NodeRestriction to it
// as to a real kubelet.
var users = map[string]pkix.Name{
	"admin":                   {CommonName: "admin", Organization: []string{"system:masters"}},
	"kube-controller-manager": {CommonName: "system:kube-controller-manager"},
	"kube-scheduler":          {CommonName: "system:kube-scheduler"},
}

// A signer is a certificate authority, or any certificate together with its key.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// writePKI creates the CA, the serving certificate, the service-account key and one kubeconfig per user. Certificates live
// for ten years: a directory never expires.
func writePKI(dir string, port int) error {
	pki := filepath.Join(dir, "pki")
	if err := os.MkdirAll(pki, 0o700); err != nil {
		return err
	}
	ca, err := issue(pki, "ca", nil, &x509.Certificate{
		Subject: pkix.Name{CommonName: "kube-testbed"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	})
	if err != nil {
		return err
	}
	if _, err := issue(pki, "service-account", ca, &x509.Certificate{}); err != nil {
		return err
	}
	serving := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if _, err := issue(pki, "apiserver", ca, serving); err != nil {
		return err
	}
	for name, subject := range users {
		client := &x509.Certificate{Subject: subject, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if _, err := issue(pki, name, ca, client); err != nil {
			return err
		}
		if err := writeKubeconfig(dir, name, port); err != nil {
			return err
		}
	}
	return nil
}

// issue writes NAME.crt and NAME.key, signed by the CA, or by itself when ca is nil.
func issue(dir, name string, ca *signer, template *x509.Certificate) (*signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().AddDate(10, 0, 0)
	if template.KeyUsage == 0 {
		template.KeyUsage = x509.KeyUsageDigitalSignature
	}
	parent := &signer{template, key}
	if ca != nil {
		parent = ca
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, &key.PublicKey, parent.key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := writePEM(filepath.Join(dir, name+".crt"), "CERTIFICATE", der); err != nil {
		return nil, err
	}
	return &signer{cert, key}, writePEM(filepath.Join(dir, name+".key"), "EC PRIVATE KEY", keyDER)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

func writeKubeconfig(dir, user string, port int) error {
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: testbed
  cluster: {server: "https://127.0.0.1:%d", certificate-authority: pki/ca.crt}
users:
- name: %[2]s
  user: {client-certificate: pki/%[2]s.crt, client-key: pki/%[2]s.key}
contexts:
- name: testbed
  context: {cluster: testbed, user: %[2]s}
current-context: testbed
`, port, user)
	return os.WriteFile(filepath.Join(dir, user+".kubeconfig"), []byte(text), 0o600)
}
