# Makes root -> middle -> signing -> host with RSA keys and three revocation lists (OpenSSL 3).
subject='/C=US/ST=New York/L=Armonk/O=International Business Machines Corporation/OU=Test Key Signing Service/CN=International Business Machines Corporation'
cat > ext.cnf <<'X'
[ca]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
[root]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
[sign]
basicConstraints=CA:FALSE
keyUsage=digitalSignature
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
[host]
keyUsage=keyAgreement
authorityKeyIdentifier=keyid
[crl]
authorityKeyIdentifier=keyid
[list]
default_md=sha512
database=index.txt
crlnumber=number
X
: > index.txt
for name in root middle signing; do openssl genrsa -out $name.key 2048 2>/dev/null; done
openssl ecparam -name secp521r1 -genkey -noout -out host.key
printf '[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=x\n' > req.cnf
issue() { # name subject section issuer
  openssl req -new -key $1.key -subj "$2" -config req.cnf -out $1.csr
  if [ "$4" = self ]; then
    openssl x509 -req -in $1.csr -signkey root.key -days 30 -sha384 -extfile ext.cnf -extensions $3 -out $1.crt
  else
    openssl x509 -req -in $1.csr -CA $4.crt -CAkey $4.key -set_serial $5 -days 30 -sha512 -extfile ext.cnf -extensions $3 -out $1.crt
  fi
}
issue root '/O=Test/CN=Root' root self
issue middle '/O=Test/CN=Middle' ca root 2
issue signing "$subject" sign middle 3
issue host '/O=Test/CN=Machine' host signing 4
echo 01 > number
for name in root middle signing; do
  openssl ca -gencrl -config ext.cnf -name list -crlexts crl -crldays 30 -keyfile $name.key -cert $name.crt -out $name.crl
done
